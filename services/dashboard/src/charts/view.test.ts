import { expect, test } from "vitest";

import { chartSearch, chartView, toSearch, type ChartView } from "./view";

test.each<ChartView>([
  { logScale: false, smoothing: 0, x: "step", zoom: null },
  { logScale: true, smoothing: 0.9, x: "time", zoom: { from: -0.5, to: 12.3 } },
  { logScale: false, smoothing: 0, x: "step", zoom: { from: 100, to: 4000 } },
])("what a URL keeps of %j is all of it", (view) => {
  expect(chartView(chartSearch({ ...toSearch(view) }))).toEqual(view);
});

test("what a URL cannot mean is dropped", () => {
  const plain = chartView({});
  for (const search of [{ y: "cubic" }, { smooth: -1 }, { smooth: "much" }, { x: "tokens" }, { zoom: "5..5" }, { zoom: "9..1" }, { zoom: "1..e" }]) {
    expect(chartView(chartSearch(search))).toEqual(plain);
  }
  expect(chartSearch({ smooth: 7 }).smooth).toBe(0.99);
});

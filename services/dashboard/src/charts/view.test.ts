import { expect, test } from "vitest";

import { chartSearch, chartView, rounded, toSearch, type ChartView } from "./view";

test.each<ChartView>([
  { logScale: false, smoothing: 0, x: "step", zoom: null },
  { logScale: true, smoothing: 0.9, x: "time", zoom: { from: -0.5, to: 12.3 } },
  { logScale: false, smoothing: 0, x: "step", zoom: { from: 100, to: 4000 } },
])("what a URL keeps of %j is all of it", (view) => {
  expect(chartView(chartSearch({ ...toSearch(view) }))).toEqual(view);
});

test("a zoom is rounded to what the URL keeps of it", () => {
  for (const zoom of [{ from: -0.04, to: 12.345 }, { from: 1 / 3, to: 1e5 + 0.06 }]) {
    expect(chartView(chartSearch({ ...toSearch({ ...chartView({}), zoom }) })).zoom).toEqual(rounded(zoom));
  }
});

test("what a URL cannot mean is dropped", () => {
  const plain = chartView({});
  for (const search of [{ y: "cubic" }, { smooth: -1 }, { smooth: "much" }, { x: "tokens" }, { zoom: "5..5" }, { zoom: "9..1" }, { zoom: "1..e" }]) {
    expect(chartView(chartSearch(search))).toEqual(plain);
  }
  expect(chartSearch({ smooth: 7 }).smooth).toBe(0.99);
});

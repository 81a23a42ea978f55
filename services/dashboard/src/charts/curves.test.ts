import { describe, expect, test } from "vitest";

import { forward, overTime, secondsAt, stepsBetween } from "./clock";
import { align, drawn, groupByMetric, refined, smoothed } from "./curves";

test("layers of one metric share a chart, in the order of layers", () => {
  const one = (name: string) => ({ name, steps: [0], values: [1] });
  const groups = groupByMetric([one("L10/fvu"), one("L02/fvu"), one("lr"), one("L02/heldout_fvu"), one("L02.k8/fvu")]);
  expect(groups.map((group) => [group.name, group.series.map((series) => series.label)])).toEqual([
    ["heldout_fvu", ["L2"]],
    ["fvu", ["L2", "L2 k8", "L10"]],
    ["lr", ["lr"]],
  ]);
});

test("series measured at different steps line up on their union", () => {
  const [group] = groupByMetric([
    { name: "L00/x", steps: [0, 10], values: [1, 2] },
    { name: "L01/x", steps: [10, 20], values: [3, 4] },
  ]);
  expect(group && align(group)).toEqual([[0, 10, 20], [1, 2, null], [null, 3, 4]]);
});

describe("smoothing", () => {
  test("keeps the first value, constants and gaps, and stays between the values", () => {
    expect(smoothed([3, 3, null, 3], 0.9).map((value) => value?.toFixed(9))).toEqual(["3.000000000", "3.000000000", undefined, "3.000000000"]);
    const noisy = Array.from({ length: 200 }, (_, i) => Math.sin(i * i));
    const calm = smoothed(noisy, 0.95);
    expect(calm[0]).toBe(noisy[0]);
    for (const value of calm) expect(Math.abs(value ?? 0)).toBeLessThanOrEqual(1);
    expect(Math.max(...calm.slice(50).map(Number))).toBeLessThan(0.6);
  });

  test("is drawn after what was measured; a logarithmic scale has no place for 0", () => {
    const group = { name: "m", series: [{ label: "m", layer: null, x: [0, 1, 2], values: [0, 4, 2] }] };
    expect(drawn(group, { logScale: false, smoothing: 0 })).toEqual([[0, 1, 2], [0, 4, 2]]);
    const [xs, raw, calm] = drawn(group, { logScale: true, smoothing: 0.5 });
    expect([xs, raw]).toEqual([[0, 1, 2], [null, 4, 2]]);
    expect(calm?.[0]).toBeNull();
    expect(calm?.[1]).toBe(4);
    expect(calm?.[2]).toBeCloseTo((0.25 * 4 + 0.5 * 2) / 0.75);
  });
});

test("a closer look replaces what lies in its range, and nothing else", () => {
  const every = (from: number, to: number, name = "loss") => {
    const steps = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    return { name, steps, values: steps.map((step) => step * step) };
  };
  const coarse = { name: "loss", steps: [0, 7, 10, 19, 40], values: [0, 49, 100, 361, 1600] };
  const lr = every(0, 3, "lr");
  for (const [first, last] of [[8, 20], [0, 40], [11, 12], [0, 3], [41, 50], [20, 39]] as const) {
    const [found, other] = refined([coarse, lr], [every(first, last)], first, last);
    const kept = coarse.steps.filter((step) => step < first || step > last);
    expect(found?.steps).toEqual([...kept, ...every(first, last).steps].sort((a, b) => a - b));
    expect(found?.values).toEqual(found?.steps.map((step) => step * step));
    expect(other).toBe(lr);
  }
});

describe("a clock", () => {
  const ticks = [{ step: 0, seconds: 2 }, { step: 10, seconds: 22 }, { step: 20, seconds: 32 }];

  test("tells its own ticks, a line between them and never what lies outside", () => {
    for (const { step, seconds } of ticks) expect(secondsAt(ticks, step)).toBe(seconds);
    expect([5, 15, -3, 99].map((step) => secondsAt(ticks, step))).toEqual([12, 27, 2, 32]);
    expect(secondsAt([], 5)).toBe(0);
    expect(secondsAt([{ step: 3, seconds: 7 }], 5)).toBe(7);
  });

  test("finds the steps between two moments", () => {
    expect([stepsBetween(ticks, 3, 40), stepsBetween(ticks, 0, 22), stepsBetween(ticks, 3, 9), stepsBetween([], 0, 9)]).toEqual([
      { first: 10, last: 20 },
      { first: 0, last: 10 },
      null,
      null,
    ]);
  });

  test("runs forward over attempts", () => {
    const left = [{ step: 0, seconds: 1 }, { step: 10, seconds: 5 }, { step: 20, seconds: 9 }, { step: 30, seconds: 13 }];
    const again = [{ step: 10, seconds: 50 }, { step: 20, seconds: 54 }];
    expect(forward([...left, ...again])).toEqual([left[0], ...again]);
  });

  test("moves every line of a group", () => {
    const group = { name: "m", series: [{ label: "m", layer: null, x: [0, 20], values: [1, 2] }] };
    expect(overTime(group, ticks).series[0]?.x).toEqual([2, 32]);
  });
});

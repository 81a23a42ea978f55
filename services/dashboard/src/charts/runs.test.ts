import { describe, expect, test } from "vitest";

import { differences, front, labelsOf, layersOf, overlay, ticks } from "./runs";

const run = (label: string, ...series: [string, number[], (number | null)[]][]) => ({
  id: label,
  label,
  spec: {},
  series: series.map(([name, steps, values]) => ({ name, steps, values })),
});

describe("curves of several runs", () => {
  const runs = [
    run("a", ["L00/fvu", [0, 5], [1, 0.5]], ["L01/fvu", [0, 5], [3, null]], ["lr", [0], [0.1]]),
    run("b", ["L01/fvu", [0], [7]], ["L01.k8/fvu", [0], [9]]),
  ];

  test("are a line a run: the mean over layers of what was measured, or one layer", () => {
    expect(overlay(runs, null).map((group) => [group.name, group.series.map(({ label, x, values }) => [label, x, values])])).toEqual([
      ["fvu", [["a", [0, 5], [2, 0.5]], ["b", [0], [7]], ["b k8", [0], [9]]]],
      ["lr", [["a", [0], [0.1]]]],
    ]);
    expect(overlay(runs, 0)[0]?.series.map(({ label, values }) => [label, values])).toEqual([["a", [1, 0.5]]]);
  });

  test("know their layers", () => expect(layersOf(runs)).toEqual([0, 1]));
});

test("runs of one name are told apart by their ids", () => {
  expect(labelsOf([{ id: "0-aaaa", name: "x" }, { id: "0-bbbb", name: "x" }, { id: "0-cccc", name: "y" }])).toEqual(["x #aaaa", "x #bbbb", "y"]);
});

test("only what differs is told, at its path", () => {
  const spec = { kind: "train", layers: [0, 1], coder: { activation: { kind: "topk", k: 8 }, n: 2 } };
  expect(differences([spec, spec])).toEqual([]);
  expect(differences([spec, { ...spec, layers: [0], coder: { ...spec.coder, activation: { kind: "relu" } } }])).toEqual([
    { path: "layers", values: ["[0,1]", "[0]"] },
    { path: "coder.activation.kind", values: ['"topk"', '"relu"'] },
    { path: "coder.activation.k", values: ["8", null] },
  ]);
});

test("the front is what nothing is better than in both", () => {
  const spots = [[1, 9], [2, 4], [2, 3], [3, 3], [4, 5], [5, 1]].map(([x = 0, y = 0]) => ({ x, y }));
  const kept = front(spots);
  expect(kept).toEqual([{ x: 1, y: 9 }, { x: 2, y: 3 }, { x: 5, y: 1 }]);
  for (const spot of spots) {
    const beaten = spots.some((other) => other.x <= spot.x && other.y <= spot.y && (other.x < spot.x || other.y < spot.y));
    expect(kept.includes(spot)).toBe(!beaten);
  }
});

test.each([[0.31, 0.62], [12, 340], [5, 5], [0, 0], [-0.02, 0.11]])("round numbers cover %d to %d", (low, high) => {
  const marks = ticks(low, high);
  expect(marks[0]).toBeLessThanOrEqual(low);
  expect(marks.at(-1)).toBeGreaterThanOrEqual(high);
  expect(marks.length).toBeGreaterThan(1);
  expect(marks.length).toBeLessThan(9);
});

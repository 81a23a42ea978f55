import { describe, expect, test } from "vitest";

import { walk } from "./gestures";
import { edgesAbove, indexGraph, logitNames, pathRows } from "./model";
import { documentOf, node } from "./sample";

const A = 10;
const B = 20;
const F = 30;
const Y = 40;
const document = documentOf(
  [node(A, "token", -1, 0, 0.3), node(B, "token", -1, 1, 0.7), node(F, "feature", 0, 1, 0.5), node(Y, "logit", 2, 1, 1)],
  [
    { source: A, target: F, weight: 1 },
    { source: B, target: F, weight: -3 },
    { source: F, target: Y, weight: 2 },
    { source: B, target: Y, weight: 6 },
    { source: 999, target: Y, weight: 100 },
  ],
);
document.paths = [{ score: 0.19, steps: [{ node: B, edge: -3, share: 0.75 }, { node: F, edge: 2, share: 0.25 }, { node: Y }] }];
const graph = indexGraph(document);
const ids = (rows: Iterable<number>) => [...rows].map((row) => graph.nodes[row]?.id);

describe("index", () => {
  test("inputs and outputs are the document's edges, strongest first; an edge to nowhere is left out", () => {
    const f = graph.rowOf.get(F) ?? -1;
    const y = graph.rowOf.get(Y) ?? -1;
    expect(ids((graph.inputs[f] ?? []).map((e) => graph.edges.source[e] ?? -1))).toEqual([B, A]);
    expect(ids((graph.inputs[y] ?? []).map((e) => graph.edges.source[e] ?? -1))).toEqual([B, F]);
    expect(ids((graph.outputs[f] ?? []).map((e) => graph.edges.target[e] ?? -1))).toEqual([Y]);
    expect(graph.edges.length).toBe(4);
  });

  test("shares into a node add up to one", () => {
    graph.inputs.forEach((edges) => {
      if (edges.length > 0) expect(edges.reduce((sum, e) => sum + (graph.edges.share[e] ?? 0), 0)).toBeCloseTo(1);
    });
  });

  test("edges above a threshold are the prefix that a filter would give", () => {
    for (const flow of [0, 0.1, 0.125, 0.25, 0.374, 0.375, 0.76]) {
      const expected = [...graph.edges.flow].filter((value) => value >= flow).length;
      expect(edgesAbove(graph.edges, flow)).toBe(expected);
    }
    expect([...graph.edges.flow]).toEqual([...graph.edges.flow].sort((a, b) => b - a));
  });

  test("a path is its nodes and the edges between them", () => {
    const path = pathRows(graph, 0);
    expect(ids(path?.nodes ?? [])).toEqual([B, F, Y]);
    expect(path?.edges.map((e) => graph.edges.weight[e])).toEqual([-3, 2]);
    expect(pathRows(graph, 1)).toBeNull();
  });
});

test("arrow keys follow the strongest edges and the order on the screen", () => {
  const at = (id: number) => graph.rowOf.get(id) ?? null;
  const layout = { x: Float64Array.from([0, 50, 50, 50]) };
  const all = new Uint8Array(4).fill(1);
  expect(walk(graph, layout, all, null, "ArrowUp")).toBe(at(Y));
  expect(walk(graph, layout, all, at(Y), "ArrowDown")).toBe(at(B));
  expect(walk(graph, layout, all, at(F), "ArrowUp")).toBe(at(Y));
  expect(walk(graph, layout, all, at(A), "ArrowDown")).toBe(at(A));
  expect(walk(graph, layout, all, at(A), "ArrowRight")).toBe(at(B));
  expect(walk(graph, layout, all, at(B), "ArrowRight")).toBe(at(B));

  const withoutB = Uint8Array.from(graph.nodes, ({ id }) => Number(id !== B));
  expect(walk(graph, layout, withoutB, at(Y), "ArrowDown")).toBe(at(F));
  expect(walk(graph, layout, withoutB, at(A), "ArrowRight")).toBe(at(A));
});

test("logits are named by their targets, in the order of their nodes, differences by both tokens", () => {
  const document = documentOf([node(9, "logit", 2, 1, 0.3), node(0, "token", -1, 0, 0.1), node(7, "logit", 2, 1, 0.6)], []);
  const target = { token_id: 5, probability: 0.5, logit: 1, minus: null, minus_id: null };
  document.summary.targets = [{ ...target, token: " on" }, { ...target, token: " up", minus: " in", minus_id: 6 }];
  expect([...logitNames(indexGraph(document))].sort()).toEqual([[7, "␣on"], [9, "␣up − ␣in"]]);
});

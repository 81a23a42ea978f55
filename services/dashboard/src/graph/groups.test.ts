import { describe, expect, test } from "vitest";

import { bySign, groupNodes, indexGraph, pathRows, type Graph } from "./model";
import { documentOf, node, random, randomGraph } from "./sample";
import type { Group } from "./search";

const graph = indexGraph(randomGraph(120, 5, 6, 23));
const sum = (of: Graph, edges: readonly number[] | undefined) => (edges ?? []).reduce((total, e) => total + (of.edges.weight[e] ?? 0), 0);
const rowIn = (of: Graph, id: number) => of.rowOf.get(id) ?? -1;

/** Some groups of some nodes, none in two. */
function randomGroups(seed: number): Group[] {
  const next = random(seed);
  const groups: Group[] = Array.from({ length: 4 }, (_, i) => ({ name: `g${i}`, nodes: [] }));
  for (const { id } of graph.nodes) if (next() < 0.4) groups[Math.floor(next() * 4)]?.nodes.push(id);
  return groups;
}

describe.each([1, 2, 3, 4, 5])("groups of draw %i", (seed) => {
  const groups = randomGroups(seed);
  const grouped = groupNodes(graph, groups);

  test("what goes into and out of a group is what goes into and out of its members, less what stays inside", () => {
    for (const group of groups) {
      const row = rowIn(grouped, group.nodes[0] ?? -1);
      const made = grouped.nodes[row];
      if (made?.type !== "group") throw new Error("not drawn as one");
      expect(made.members.map(({ id }) => id)).toEqual(group.nodes);
      const total = (side: "inputs" | "outputs") => group.nodes.reduce((all, id) => all + sum(graph, graph[side][rowIn(graph, id)]), 0);
      expect(sum(grouped, grouped.inputs[row]) + made.inner.weight).toBeCloseTo(total("inputs"), 5);
      expect(sum(grouped, grouped.outputs[row]) + made.inner.weight).toBeCloseTo(total("outputs"), 5);
    }
  });

  test("what any other node gives and takes is the same, and edges between others are untouched", () => {
    const members = new Set(groups.flatMap((group) => group.nodes));
    const edge = (of: Graph, e: number) => [of.nodes[of.edges.source[e] ?? -1]?.id, of.nodes[of.edges.target[e] ?? -1]?.id, of.edges.weight[e]] as const;
    const outside = (of: Graph) => [...Array(of.edges.length).keys()].map((e) => edge(of, e)).filter(([a, b]) => !members.has(a ?? -1) && !members.has(b ?? -1)).sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0) || (a[1] ?? 0) - (b[1] ?? 0));
    expect(outside(grouped)).toEqual(outside(graph));
    for (const { id } of graph.nodes) {
      if (members.has(id)) continue;
      for (const side of ["inputs", "outputs"] as const) {
        expect(sum(grouped, grouped[side][rowIn(grouped, id)])).toBeCloseTo(sum(graph, graph[side][rowIn(graph, id)]), 5);
      }
    }
  });

  test("there is one edge from one node to another, none from a node to itself, and shares add up to one", () => {
    const pairs = [...Array(grouped.edges.length).keys()].map((e) => `${grouped.edges.source[e]}>${grouped.edges.target[e]}`);
    expect(new Set(pairs).size).toBe(pairs.length);
    for (const pair of pairs) expect(pair.split(">")[0]).not.toBe(pair.split(">")[1]);
    grouped.inputs.forEach((edges) => {
      if (edges.length > 0) expect(edges.reduce((all, e) => all + (grouped.edges.share[e] ?? 0), 0)).toBeCloseTo(1);
    });
  });

  test("every id of the document leads to the node that now stands for it", () => {
    expect(grouped.nodes.length).toBe(graph.nodes.length - groups.reduce((all, group) => all + group.nodes.length - 1, 0));
    for (const { id } of graph.nodes) {
      const now = grouped.nodes[rowIn(grouped, id)];
      expect(now?.type === "group" ? now.members.map((member) => member.id) : [now?.id]).toContain(id);
    }
  });
});

test("a group that is not one changes nothing", () => {
  expect(groupNodes(graph, [])).toBe(graph);
  expect(groupNodes(graph, [{ name: "unknown", nodes: [1e6, 1e6 + 1] }, { name: "alone", nodes: [graph.nodes[3]?.id ?? 0] }])).toBe(graph);
});

test("a chain in a group carries its influence once, and a path through it goes through one node", () => {
  const document = documentOf(
    [node(1, "token", -1, 0, 1), node(2, "feature", 0, 0, 0.5), node(3, "feature", 1, 0, 0.5), node(4, "logit", 2, 0, 1)],
    [
      { source: 1, target: 2, weight: 2 },
      { source: 2, target: 3, weight: 3 },
      { source: 3, target: 4, weight: -1 },
      { source: 1, target: 4, weight: 1 },
    ],
  );
  document.paths = [{ score: 0.5, steps: [{ node: 1 }, { node: 2 }, { node: 3 }, { node: 4 }] }];
  const grouped = groupNodes(indexGraph(document), [{ name: "chain", nodes: [2, 3] }]);
  const row = rowIn(grouped, 3);
  expect(grouped.nodes[row]).toMatchObject({ type: "group", label: "chain", influence: 0.5, inner: { count: 1, weight: 3 } });
  expect(pathRows(grouped, 0)?.nodes).toEqual([rowIn(grouped, 1), row, rowIn(grouped, 4)]);
  expect(pathRows(grouped, 0)?.edges.map((e) => grouped.edges.weight[e])).toEqual([2, -1]);
});

test("edges are told apart by what they do", () => {
  const { edges, inputs } = graph;
  for (const list of inputs) {
    const { excitatory, inhibitory } = bySign(edges, list);
    expect([...excitatory, ...inhibitory].sort((a, b) => a - b)).toEqual([...list].sort((a, b) => a - b));
    for (const [signed, sign] of [[excitatory, 1], [inhibitory, -1]] as const) {
      const sizes = signed.map((e) => sign * (edges.weight[e] ?? 0));
      expect(sizes.every((size, i) => size > 0 && size <= (sizes[i - 1] ?? Infinity))).toBe(true);
    }
  }
});

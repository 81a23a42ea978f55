import { expect, test } from "vitest";

import { indexGraph } from "./model";
import { carriedBefore, keptRows, shown } from "./prune";
import { documentOf, node, random, randomGraph } from "./sample";

const graph = indexGraph(randomGraph(300, 6, 8, 11));
const before = carriedBefore(graph.nodes);
const kept = (threshold: number, always: number[] = []) => keptRows(graph, before, threshold, always);
const isRanked = (row: number) => !["token", "logit"].includes(graph.nodes[row]?.type ?? "");
const ranked = [...graph.nodes.keys()].filter(isRanked);
const influence = (rows: number[]) => rows.reduce((sum, row) => sum + (graph.nodes[row]?.influence ?? 0), 0);

test.each([0, 0.01, 0.3, 0.5, 0.8, 0.99, 1])("at %f the fewest nodes are kept that carry it", (threshold) => {
  const rows = kept(threshold);
  const in_ = ranked.filter((row) => rows[row] === 1);
  const out = ranked.filter((row) => rows[row] === 0);
  expect(influence(in_)).toBeGreaterThanOrEqual(threshold * influence(ranked) * (1 - 1e-9));
  const weakest = Math.min(...in_.map((row) => graph.nodes[row]?.influence ?? 0));
  if (in_.length > 0 && threshold < 1) expect(influence(in_) - weakest).toBeLessThan(threshold * influence(ranked));
  for (const row of out) expect(graph.nodes[row]?.influence).toBeLessThan(weakest);
  graph.nodes.forEach((_, row) => { if (!isRanked(row)) expect(rows[row]).toBe(1); });
});

test("all and nothing: at 1 every node is kept, at 0 tokens, logits and what is asked for", () => {
  expect(kept(1).every((one) => one === 1)).toBe(true);
  const asked = ranked[17] ?? 0;
  expect(ranked.filter((row) => kept(0, [asked])[row])).toEqual([asked]);
});

test("nodes of one influence stay or go together", () => {
  const even = indexGraph(documentOf(Array.from({ length: 4 }, (_, i) => node(i, "feature", 0, 0, i < 1 ? 0.4 : 0.2)), []));
  const counts = [0, 0.3, 0.4, 0.41, 0.9].map((t) => keptRows(even, carriedBefore(even.nodes), t, []).reduce((a, b) => a + b, 0));
  expect(counts).toEqual([0, 1, 1, 4, 4]);
});

test("an edge is drawn if it is strong enough and both its ends are", () => {
  const next = random(5);
  for (let trial = 0; trial < 20; trial += 1) {
    const nodes = Uint8Array.from(graph.nodes, () => Number(next() < 0.5));
    const count = Math.floor(next() * graph.edges.length);
    const picture = shown(graph, nodes, count);
    const expected = [...Array(count).keys()].filter((e) => nodes[graph.edges.source[e] ?? 0] && nodes[graph.edges.target[e] ?? 0]);
    expect([...picture.edges]).toEqual(expected);
    expect(picture.nodeCount).toBe([...nodes].filter(Boolean).length);
  }
});

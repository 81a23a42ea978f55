/** Which nodes and edges of a graph are drawn. */
import type { Graph, PictureNode } from "./model";

/** What is drawn, by row and by edge; the edges that carry most influence first. */
export interface Shown {
  /** 1 for the rows drawn. */
  nodes: Uint8Array;
  nodeCount: number;
  edges: Int32Array;
}

/**
 * The share of the influence that more influential nodes carry, by id: at a threshold t those below t are kept, so
 * they are the fewest that carry t, ties included. Tokens and logits are not ranked: they are always kept.
 */
export function carriedBefore(nodes: readonly PictureNode[]): ReadonlyMap<number, number> {
  const ranked = nodes.filter((node) => node.type !== "token" && node.type !== "logit");
  ranked.sort((a, b) => b.influence - a.influence);
  const total = ranked.reduce((sum, node) => sum + node.influence, 0) || 1;
  const before = new Map<number, number>();
  let sum = 0;
  let above = 0;
  ranked.forEach((node, i) => {
    if (node.influence !== ranked[i - 1]?.influence) above = sum;
    before.set(node.id, above / total);
    sum += node.influence;
  });
  return before;
}

/** Rows kept at a threshold from 0 (tokens and logits alone) to 1 (all), and those of `always`. */
export function keptRows(graph: Graph, before: ReadonlyMap<number, number>, threshold: number, always: Iterable<number>): Uint8Array {
  const kept = Uint8Array.from(graph.nodes, (node) => Number(threshold >= 1 || (before.get(node.id) ?? -1) < threshold));
  for (const row of always) kept[row] = 1;
  return kept;
}

/** These rows and no others. */
export function rowsAlone(graph: Graph, rows: Iterable<number>): Uint8Array {
  const alone = new Uint8Array(graph.nodes.length);
  for (const row of rows) alone[row] = 1;
  return alone;
}

/** These rows, and the edges between them among the first `edgeCount`. */
export function shown(graph: Graph, nodes: Uint8Array, edgeCount: number): Shown {
  const { source, target } = graph.edges;
  const edges: number[] = [];
  for (let e = 0; e < edgeCount; e += 1) if (nodes[source[e] ?? 0] && nodes[target[e] ?? 0]) edges.push(e);
  return { nodes, nodeCount: nodes.reduce((sum, one) => sum + one, 0), edges: Int32Array.from(edges) };
}

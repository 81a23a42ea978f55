/** An attribution graph indexed for drawing and walking. Nodes are named by their row in `nodes`, not by their id. */
import type { GraphDocument, GraphNode } from "../api/types";

/** Edges as columns, the ones that carry most influence first: those above a threshold are a prefix. */
export interface Edges {
  length: number;
  source: Int32Array;
  target: Int32Array;
  weight: Float32Array;
  /** |weight| over the sum of |weights| into the target, among the edges of the picture. */
  share: Float32Array;
  /** share x influence of the target: the part of the logits' influence that the edge carries. */
  flow: Float32Array;
}

export interface Graph {
  document: GraphDocument;
  nodes: readonly GraphNode[];
  /** Row of a node by its id. */
  rowOf: ReadonlyMap<number, number>;
  edges: Edges;
  /** Edges into and out of each node, strongest first by |weight|. */
  inputs: readonly (readonly number[])[];
  outputs: readonly (readonly number[])[];
}

export function indexGraph(document: GraphDocument): Graph {
  const nodes = document.nodes;
  const rowOf = new Map(nodes.map((node, row) => [node.id, row]));
  const edges = sortedEdges(document, rowOf);
  const inputs: number[][] = nodes.map(() => []);
  const outputs: number[][] = nodes.map(() => []);
  for (let e = 0; e < edges.length; e += 1) {
    inputs[edges.target[e] ?? 0]?.push(e);
    outputs[edges.source[e] ?? 0]?.push(e);
  }
  const byWeight = (a: number, b: number) => Math.abs(edges.weight[b] ?? 0) - Math.abs(edges.weight[a] ?? 0);
  for (const list of inputs) list.sort(byWeight);
  for (const list of outputs) list.sort(byWeight);
  return { document, nodes, rowOf, edges, inputs, outputs };
}

function sortedEdges(document: GraphDocument, rowOf: ReadonlyMap<number, number>): Edges {
  const known = document.edges.filter((edge) => rowOf.has(edge.source) && rowOf.has(edge.target));
  const total = new Map<number, number>();
  for (const { target, weight } of known) total.set(target, (total.get(target) ?? 0) + Math.abs(weight));
  const influence = new Map(document.nodes.map((node) => [node.id, node.influence]));
  const rows = known.map(({ source, target, weight }) => {
    const share = Math.abs(weight) / (total.get(target) || 1);
    return { source, target, weight, share, flow: share * (influence.get(target) ?? 0) };
  });
  rows.sort((a, b) => b.flow - a.flow);
  return {
    length: rows.length,
    source: Int32Array.from(rows, (row) => rowOf.get(row.source) ?? 0),
    target: Int32Array.from(rows, (row) => rowOf.get(row.target) ?? 0),
    weight: Float32Array.from(rows, (row) => row.weight),
    share: Float32Array.from(rows, (row) => row.share),
    flow: Float32Array.from(rows, (row) => row.flow),
  };
}

/** How many edges carry at least `flow`. */
export function edgesAbove(edges: Edges, flow: number): number {
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((edges.flow[middle] ?? 0) >= flow) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows of the nodes of a path, and its edges, from the leaf to the logit. */
export function pathRows(graph: Graph, index: number): { nodes: number[]; edges: number[] } | null {
  const path = graph.document.paths[index];
  if (!path) return null;
  const nodes = path.steps.map((step) => graph.rowOf.get(step.node)).filter((row) => row !== undefined);
  const edges: number[] = [];
  for (let i = 0; i + 1 < nodes.length; i += 1) {
    const edge = graph.outputs[nodes[i] ?? -1]?.find((e) => graph.edges.target[e] === nodes[i + 1]);
    if (edge !== undefined) edges.push(edge);
  }
  return { nodes, edges };
}

/** The token a node stands at, if it stands at one. */
export function tokenOf(graph: Graph, node: GraphNode): string | undefined {
  return graph.document.summary.tokens[node.position];
}

export function layerName(layer: number, nLayers: number): string {
  if (layer < 0) return "emb";
  return layer >= nLayers ? "logits" : `L${layer}`;
}

/** An attribution graph indexed for drawing and walking. Nodes are named by their row in `nodes`, not by their id. */
import type { GraphDocument, GraphNode, GraphSummary } from "../api/types";
import { token } from "../format";
import type { Group } from "./search";

/** Some nodes drawn as one. */
export interface GroupNode extends Omit<GraphNode, "type" | "value"> {
  type: "group";
  /** Which of the groups it is. */
  group: number;
  members: readonly GraphNode[];
  /** Edges from one member to another, which are not drawn: how many, and the sum of their weights. */
  inner: { count: number; weight: number };
}

export type PictureNode = GraphNode | GroupNode;

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
  nodes: readonly PictureNode[];
  /** Row of a node by its id; of a node in a group, the row of the group. */
  rowOf: ReadonlyMap<number, number>;
  edges: Edges;
  /** Edges into and out of each node, strongest first by |weight|. */
  inputs: readonly (readonly number[])[];
  outputs: readonly (readonly number[])[];
}

/** An edge between rows. */
interface Link {
  source: number;
  target: number;
  weight: number;
}

export function indexGraph(document: GraphDocument): Graph {
  const rowOf = new Map(document.nodes.map((node, row) => [node.id, row]));
  const links: Link[] = [];
  for (const { source, target, weight } of document.edges) {
    const [from, to] = [rowOf.get(source), rowOf.get(target)];
    if (from !== undefined && to !== undefined) links.push({ source: from, target: to, weight });
  }
  return assemble(document, document.nodes, rowOf, links);
}

function assemble(document: GraphDocument, nodes: readonly PictureNode[], rowOf: ReadonlyMap<number, number>, links: readonly Link[]): Graph {
  const edges = weigh(nodes, links);
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

function weigh(nodes: readonly PictureNode[], links: readonly Link[]): Edges {
  const total = new Float64Array(nodes.length);
  for (const { target, weight } of links) total[target] = (total[target] ?? 0) + Math.abs(weight);
  const rows = links.map((link) => {
    const share = Math.abs(link.weight) / (total[link.target] || 1);
    return { ...link, share, flow: share * (nodes[link.target]?.influence ?? 0) };
  });
  rows.sort((a, b) => b.flow - a.flow);
  return {
    length: rows.length,
    source: Int32Array.from(rows, (row) => row.source),
    target: Int32Array.from(rows, (row) => row.target),
    weight: Float32Array.from(rows, (row) => row.weight),
    share: Float32Array.from(rows, (row) => row.share),
    flow: Float32Array.from(rows, (row) => row.flow),
  };
}

/**
 * The graph with each group drawn as one node: an edge of a group is the sum of its members' edges with the same other
 * end. A group stands where its most influential member stands, under the id of its first. Groups of fewer than two
 * nodes of the graph are left out; those in two groups count for the first.
 */
export function groupNodes(graph: Graph, groups: readonly Group[]): Graph {
  const groupOf = new Map<number, number>();
  groups.forEach(({ nodes }, index) => {
    const rows = new Set(nodes.map((id) => graph.rowOf.get(id)).filter((row) => row !== undefined && !groupOf.has(row)));
    if (rows.size > 1) for (const row of rows) if (row !== undefined) groupOf.set(row, index);
  });
  if (groupOf.size === 0) return graph;

  const alone = [...graph.nodes.keys()].filter((row) => !groupOf.has(row));
  const made = [...new Set(groupOf.values())];
  const placeOf = new Map([...groupOf].map(([row, index]) => [row, alone.length + made.indexOf(index)]));
  alone.forEach((row, place) => placeOf.set(row, place));

  const inner = made.map(() => ({ count: 0, weight: 0, flow: 0 }));
  const links = new Map<number, Link>();
  for (let e = 0; e < graph.edges.length; e += 1) {
    const weight = graph.edges.weight[e] ?? 0;
    const source = placeOf.get(graph.edges.source[e] ?? 0) ?? 0;
    const target = placeOf.get(graph.edges.target[e] ?? 0) ?? 0;
    const inside = source === target ? inner[source - alone.length] : undefined;
    if (inside) {
      inside.count += 1;
      inside.weight += weight;
      inside.flow += graph.edges.flow[e] ?? 0;
      continue;
    }
    const key = source * graph.nodes.length + target;
    const link = links.get(key);
    if (link) link.weight += weight;
    else links.set(key, { source, target, weight });
  }

  const nodes = alone.map((row) => graph.nodes[row]).filter((node) => node !== undefined);
  made.forEach((index, i) => {
    const rows = [...groupOf].filter(([, other]) => other === index).map(([row]) => row);
    const members = rows.map((row) => graph.nodes[row]).filter((node) => node !== undefined && node.type !== "group");
    nodes.push(groupNode(index, groups[index]?.name ?? "", members, inner[i] ?? { count: 0, weight: 0, flow: 0 }));
  });
  const rowOf = new Map([...graph.rowOf].map(([id, row]) => [id, placeOf.get(row) ?? 0]));
  return assemble(graph.document, nodes, rowOf, [...links.values()]);
}

function groupNode(group: number, label: string, members: readonly GraphNode[], inner: { count: number; weight: number; flow: number }): GroupNode {
  const first = members.reduce((best, node) => (node.influence > best.influence ? node : best));
  // What one member passes to another would count twice. Shares among the edges shown are larger than those among all,
  // so this may take off too much; a group carries no less than its strongest member.
  const influence = members.reduce((sum, node) => sum + node.influence, -inner.flow);
  return {
    type: "group",
    id: members[0]?.id ?? first.id,
    layer: first.layer,
    position: first.position,
    label,
    influence: Math.max(first.influence, influence),
    group,
    members,
    inner: { count: inner.count, weight: inner.weight },
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

/** A node's edges that excite, and those that inhibit, strongest first; those of weight 0 do neither. */
export function bySign(edges: Edges, list: readonly number[]): { excitatory: number[]; inhibitory: number[] } {
  return {
    excitatory: list.filter((e) => (edges.weight[e] ?? 0) > 0),
    inhibitory: list.filter((e) => (edges.weight[e] ?? 0) < 0),
  };
}

/** Rows of the nodes of a path, and its edges, from the leaf to the logit; steps inside a group are one. */
export function pathRows(graph: Graph, index: number): { nodes: number[]; edges: number[] } | null {
  const path = graph.document.paths[index];
  if (!path) return null;
  const steps = path.steps.map((step) => graph.rowOf.get(step.node)).filter((row) => row !== undefined);
  const nodes = steps.filter((row, i) => row !== steps[i - 1]);
  const edges: number[] = [];
  for (let i = 0; i + 1 < nodes.length; i += 1) {
    const edge = graph.outputs[nodes[i] ?? -1]?.find((e) => graph.edges.target[e] === nodes[i + 1]);
    if (edge !== undefined) edges.push(edge);
  }
  return { nodes, edges };
}

/** The token a node stands at, if it stands at one. */
export function tokenOf(graph: Graph, node: PictureNode): string | undefined {
  return graph.document.summary.tokens[node.position];
}

export function layerName(layer: number, nLayers: number): string {
  if (layer < 0) return "emb";
  return layer >= nLayers ? "logits" : `L${layer}`;
}

/** A token, the difference of two, or the name of a direction. */
export function targetName({ token: name, minus }: GraphSummary["targets"][number]): string {
  return minus ? `${token(name)} − ${token(minus)}` : token(name);
}

/** What each logit is, by the node's id: targets come in the order of their nodes, and all are in the picture. */
export function logitNames(graph: Graph): Map<number, string> {
  const ids = graph.document.nodes.filter(({ type }) => type === "logit").map(({ id }) => id).sort((a, b) => a - b);
  const { targets } = graph.document.summary;
  return new Map(ids.flatMap((id, k) => (targets[k] ? [[id, targetName(targets[k])] as const] : [])));
}

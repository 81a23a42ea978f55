/** Small graphs for tests. */
import type { GraphDocument, GraphEdge, GraphNode, NodeType } from "../api/types";

export function node(id: number, type: NodeType, layer: number, position: number, influence = 0.1): GraphNode {
  return { id, type, layer, position, label: `${type} ${id}`, value: 1, influence, feature: null, token_id: null, probability: type === "logit" ? influence : null };
}

export function documentOf(nodes: GraphNode[], edges: GraphEdge[], tokens = ["a", " b"], nLayers = 2): GraphDocument {
  return {
    format: "clew-graph/1",
    name: "sample",
    summary: {
      prompt: tokens.join(""),
      tokens,
      token_ids: tokens.map((_, i) => i),
      bos: "none",
      n_layers: nLayers,
      coder_layers: [0],
      n_nodes: nodes.length,
      n_edges: edges.length,
      targets: [],
      target_rule: "likeliest",
      position_0: "error",
      conservation: { max_relative_to_edges: 0, p99_relative_to_value: 0, nodes: 0, dtype: "float64" },
      selection: { rule: "influence", active: 0, selected: 0, explained_share: 1 },
      scores: { replacement: 1, completeness: 1, error_share: 0, error_parts: { no_coder: 0, position_0: 0, coder_error: 0, unselected: 0 } },
    },
    nodes,
    edges,
    paths: [],
  };
}

/** A seeded generator, so that a failure can be repeated. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const TYPES: NodeType[] = ["feature", "feature", "feature", "error", "bias"];

/** `n` nodes of random type, layer and position, tokens and a logit included. */
export function randomNodes(n: number, nTokens: number, nLayers: number, seed: number): GraphNode[] {
  const next = random(seed);
  const nodes = Array.from({ length: nTokens }, (_, position) => node(position, "token", -1, position, next()));
  while (nodes.length < n - 1) {
    const type = TYPES[Math.floor(next() * TYPES.length)] ?? "feature";
    nodes.push(node(nodes.length * 3, type, Math.floor(next() * nLayers), Math.floor(next() ** 3 * nTokens), next()));
  }
  nodes.push(node(nodes.length * 3, "logit", nLayers, nTokens - 1, 1));
  return nodes;
}

/** Random nodes, and random edges of both signs from lower layers to features and logits. */
export function randomGraph(n: number, nTokens: number, nLayers: number, seed: number): GraphDocument {
  const nodes = randomNodes(n, nTokens, nLayers, seed);
  const next = random(seed + 1);
  const edges: GraphEdge[] = [];
  for (const target of nodes.filter(({ type }) => type === "feature" || type === "logit")) {
    for (const source of nodes) {
      if (source.layer < target.layer && next() < 0.1) edges.push({ source: source.id, target: target.id, weight: next() - 0.5 });
    }
  }
  return documentOf(nodes, edges, Array.from({ length: nTokens }, (_, i) => `t${i}`), nLayers);
}

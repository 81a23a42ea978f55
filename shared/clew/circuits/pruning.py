"""The parts of a graph worth looking at: circuit-tracer's pruning, and the picture a page shows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.graph import Graph, NodeKind
from clew.circuits.influence import influence, node_influence
from clew_spec.graph import Path

EDGES_PER_NODE = 10
"""Edges of a picture, for each node in it: about what an eye can follow, and what a page can draw."""


@dataclass(frozen=True, eq=False)
class Kept:
    nodes: Tensor
    """bool[N]"""
    edges: Tensor
    """bool[E]"""


def prune(graph: Graph, node_threshold: float = 0.8, edge_threshold: float = 0.98) -> Kept:
    """circuit-tracer's pruning (`prune_graph`): the nodes, then the edges, that carry these shares of the influence.

    Nodes are ranked by influence; tokens and logits always stay. Edges among them are ranked by the flow they carry
    once the others are gone. Then nodes that lost all their outgoing edges, and selected features that lost all their
    incoming ones, are dropped until none is left. Biases, positions and unselected features, which circuit-tracer does
    not have, are treated like its error nodes: leaves that stay as long as something leaves them.
    """
    edges = graph.edges
    always = graph.nodes.where(NodeKind.TOKEN, NodeKind.LOGIT)
    nodes = _carrying(node_influence(graph) - graph.start, node_threshold) | always
    sources, targets = edges.sources.long(), edges.target_of

    inside = nodes[sources] & nodes[targets]
    kept = _carrying(_flow_of_edges(graph, inside), edge_threshold)
    needs_input = ~graph.leaves & graph.nodes.where(NodeKind.FEATURE)
    while True:
        has_output, has_input = torch.zeros_like(nodes), torch.zeros_like(nodes)
        has_output[sources[kept]] = True
        has_input[targets[kept]] = True
        remaining = nodes & (always | has_output) & (~needs_input | has_input)
        if torch.equal(remaining, nodes):
            return Kept(nodes, kept)
        nodes = remaining
        kept = kept & nodes[sources] & nodes[targets]


def picture(graph: Graph, view_nodes: int, paths: list[Path]) -> tuple[Tensor, Tensor]:
    """Nodes int64[n] and edges int64[e], ascending indices, of the graph as a page shows it.

    The nodes are all tokens and logits, the `view_nodes` most influential others, and all those on `paths`. Half of the
    `view_nodes` are kept for features: where layers have no coder, errors alone would fill the picture. The edges
    are those on `paths`, the strongest into and out of every node, and, up to `EDGES_PER_NODE` a node in all, those
    between the nodes that carry the most influence.
    """
    edges, flow = graph.edges, node_influence(graph)
    nodes = graph.nodes.where(NodeKind.TOKEN, NodeKind.LOGIT)
    others = (~nodes & (flow > 0)).nonzero().squeeze(1)
    ranked = others[flow[others].argsort(descending=True, stable=True)]
    features = ranked[graph.nodes.where(NodeKind.FEATURE)[ranked]][: view_nodes // 2]
    nodes[features] = True
    nodes[ranked[~nodes[ranked]][: view_nodes - len(features)]] = True
    steps = [step.node for path in paths for step in path.steps]
    nodes[steps] = True

    sources, targets = edges.sources.long(), edges.target_of
    candidates = (nodes[sources] & nodes[targets]).nonzero().squeeze(1)
    carried = edges.shares[candidates] * flow[targets[candidates]]
    candidates = candidates[carried.argsort(descending=True, stable=True)][: int((carried > 0).sum())]
    keep = torch.zeros(len(edges), dtype=torch.bool)
    for path in paths:
        for here, following in zip(path.steps[:-1], path.steps[1:], strict=True):
            keep[_edge(graph, here.node, following.node)] = True
    keep[candidates[_first_of_each(sources[candidates])]] = True
    keep[candidates[_first_of_each(targets[candidates])]] = True
    room = EDGES_PER_NODE * int(nodes.sum()) - int(keep.sum())
    keep[candidates[~keep[candidates]][: max(room, 0)]] = True
    return nodes.nonzero().squeeze(1), keep.nonzero().squeeze(1)


def _carrying(scores: Tensor, share: float) -> Tensor:
    """bool: the highest of these scores that together reach `share` of their sum, ties included; never a score of 0."""
    ranked = scores.sort(descending=True).values
    reached = ranked.cumsum(0) / ranked.sum()
    last = min(int(torch.searchsorted(reached, share)), len(ranked) - 1)
    if last < 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return (scores >= ranked[last]) & (scores > 0)


def _flow_of_edges(graph: Graph, inside: Tensor) -> Tensor:
    """float64[E]: what each of the edges `inside` bool[E] carries when only they exist; 0 for the others."""
    edges = graph.edges
    rows = edges.row_of[inside]
    lengths = torch.bincount(rows, minlength=len(edges.targets))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    weights = edges.weights[inside]
    flow = influence(edges.targets, offsets, edges.sources[inside], weights, graph.start) + graph.start
    magnitude = weights.abs().double()
    sums = torch.zeros(len(edges.targets), dtype=torch.float64).index_add_(0, rows, magnitude)
    carried = torch.zeros(len(edges), dtype=torch.float64)
    carried[inside] = magnitude / sums.where(sums > 0, 1.0)[rows] * flow[edges.targets[rows]]
    return carried


def _edge(graph: Graph, source: int, target: int) -> int:
    """Index of the edge between two nodes that have one."""
    span = graph.edges.span(target)
    return int(span.start) + int(torch.searchsorted(graph.edges.sources[span], source))


def _first_of_each(ids: Tensor) -> Tensor:
    """int64: where each id first occurs."""
    order = ids.argsort(stable=True)
    ranked = ids[order]
    first = torch.ones(len(ids), dtype=torch.bool)
    first[1:] = ranked[1:] != ranked[:-1]
    return order[first]

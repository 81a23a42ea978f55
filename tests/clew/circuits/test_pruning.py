"""Pruning is circuit-tracer's rule, and the picture shows what was promised."""

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import dense, graphs, many, normalised, random_graph, series
from torch import Tensor

from clew.circuits import Graph, NodeKind, node_influence, picture, prune, strongest_paths
from clew.circuits.pruning import EDGES_PER_NODE

pytestmark = pytest.mark.science


def threshold(scores: Tensor, share: float) -> Tensor:
    ranked = scores.sort(descending=True).values
    reached = ranked.cumsum(0) / ranked.sum()
    index = min(int(torch.searchsorted(reached, share)), len(ranked) - 1)
    # Where rounding decides what is on which side, two correct answers may differ.
    assume(float((reached - share).abs().min()) > 1e-9)
    assume(not ((scores - ranked[index]).abs() < 1e-9 * ranked[index]).sum() > 1)
    return ranked[index]


def prune_densely(graph: Graph, node_threshold: float, edge_threshold: float) -> tuple[Tensor, Tensor]:
    """The rule on the dense matrix: nodes bool[N], edges bool[N, N]. Graphs with the nodes of circuit-tracer only."""
    matrix, start, kind = dense(graph), graph.start, graph.nodes.kind
    has_row = matrix.abs().sum(1) > 0
    feature, error = (kind == NodeKind.FEATURE), (kind == NodeKind.ERROR)
    selected = feature & torch.isin(torch.arange(len(kind)), graph.edges.targets)
    infl = series(normalised(matrix), start)
    assume(bool(infl.sum() > 0))
    nodes = (infl >= threshold(infl, node_threshold)) | (kind == NodeKind.TOKEN) | (kind == NodeKind.LOGIT)
    pruned = matrix.clone()
    pruned[~nodes] = 0
    pruned[:, ~nodes] = 0
    normal = normalised(pruned)
    scores = normal * (series(normal, start) + start)[:, None]
    assume(bool(scores.sum() > 0))
    edges = (scores >= threshold(scores.flatten(), edge_threshold)) & (scores > 0)
    assert not has_row[error].any()
    old = torch.zeros_like(nodes)
    while not torch.equal(old, nodes):
        old = nodes.clone()
        edges[~nodes] = False
        edges[:, ~nodes] = False
        nodes &= edges.any(0) | ~(feature | error)
        nodes &= edges.any(1) | ~selected
    return nodes, edges


@many
@given(graphs(circuit_tracer=True), st.sampled_from([0.3, 0.5, 0.8]), st.sampled_from([0.6, 0.9, 0.98]))
def test_equals_the_rule_on_the_dense_matrix(graph: Graph, node_threshold: float, edge_threshold: float) -> None:
    nodes, edges = prune_densely(graph, node_threshold, edge_threshold)
    kept = prune(graph, node_threshold, edge_threshold)
    assert kept.nodes.tolist() == nodes.tolist()
    found = torch.zeros_like(edges)
    found[graph.edges.target_of[kept.edges], graph.edges.sources[kept.edges].long()] = True
    assert torch.equal(found, edges)


@many
@given(graphs(), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_what_is_kept_is_connected(graph: Graph, node_threshold: float, edge_threshold: float) -> None:
    kept = prune(graph, node_threshold, edge_threshold)
    always = graph.nodes.where(NodeKind.TOKEN, NodeKind.LOGIT)
    sources, targets = graph.edges.sources.long()[kept.edges], graph.edges.target_of[kept.edges]
    assert kept.nodes[always].all()
    assert kept.nodes[sources].all()
    assert kept.nodes[targets].all()
    ids = torch.arange(len(graph.nodes))
    assert torch.isin(ids[kept.nodes & ~always], sources).all()
    assert torch.isin(ids[kept.nodes & ~graph.leaves & graph.nodes.where(NodeKind.FEATURE)], targets).all()


def test_pruning_drops_something_and_keeps_most_of_the_flow() -> None:
    graph = random_graph(11, n_layers=4, per_cell=4)
    kept, flow = prune(graph), node_influence(graph)
    assert 0 < int(kept.nodes.sum()) < len(graph.nodes)
    assert float(flow[kept.nodes].sum()) >= 0.7 * float(flow.sum())


def rounded(flow: Tensor, nodes: list[int]) -> set[float]:
    """Of nodes that tie, any may be shown."""
    return {round(value, 12) for value in flow[nodes].tolist()}


@many
@given(graphs(), st.integers(1, 12), st.integers(1, 10))
def test_picture(graph: Graph, view_nodes: int, n_paths: int) -> None:
    paths = strongest_paths(graph, n_paths)
    nodes, edges = picture(graph, view_nodes, paths)
    shown, flow = set(nodes.tolist()), node_influence(graph)
    always = set(graph.nodes.where(NodeKind.TOKEN, NodeKind.LOGIT).nonzero().squeeze(1).tolist())
    on_paths = {step.node for path in paths for step in path.steps}
    ranked = [node for node in flow.argsort(descending=True).tolist() if node not in always and flow[node] > 0]
    assert always | on_paths <= shown
    feature = graph.nodes.where(NodeKind.FEATURE)
    reserved = [node for node in ranked if feature[node]][: view_nodes // 2]
    rest = [node for node in ranked if node not in reserved][: view_nodes - len(reserved)]
    assert rounded(flow, reserved + rest) <= rounded(flow, list(shown))
    assert len(shown - always - on_paths) <= view_nodes

    pairs = list(zip(graph.edges.sources[edges].tolist(), graph.edges.target_of[edges].tolist(), strict=True))
    assert {node for pair in pairs for node in pair} <= shown
    for path in paths:
        steps = [step.node for step in path.steps]
        assert set(pairwise(steps)) <= set(pairs)


def test_picture_limits_its_edges_and_leaves_no_node_adrift() -> None:
    graph = random_graph(0, n_layers=6, n_positions=4, per_cell=5, density=1.0)
    paths = strongest_paths(graph, 5)
    nodes, edges = picture(graph, 120, paths)
    assert len(edges) == EDGES_PER_NODE * len(nodes) < len(graph.edges)
    carried = graph.edges.shares * node_influence(graph)[graph.edges.target_of]
    strongest = carried.argmax()
    assert strongest in edges
    logits = graph.nodes.where(NodeKind.LOGIT)
    sources, targets = graph.edges.sources[edges], graph.edges.target_of[edges]
    assert torch.isin(nodes[~logits[nodes]], sources).all()
    assert torch.isin(nodes[logits[nodes]], targets).all()

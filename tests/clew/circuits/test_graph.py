"""Rows are found from both ends, and an invalid graph says what is wrong with it."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from tests.clew.circuits.random_graphs import dense, graphs, many, random_graph, with_selected

from clew.circuits import Graph, NodeKind
from clew_spec.errors import DataError

pytestmark = pytest.mark.science


@many
@given(graphs())
def test_rows_and_outgoing_edges_are_those_of_the_dense_matrix(graph: Graph) -> None:
    graph.validate()
    matrix = dense(graph)
    for node in range(len(graph.nodes)):
        sources, weights = graph.edges.row(node)
        torch.testing.assert_close(weights, matrix[node, sources.long()], rtol=0, atol=0)
        assert len(sources) == int((matrix[node] != 0).sum())
        out = graph.edges.out(node)
        assert graph.edges.target_of[out].tolist() == matrix[:, node].nonzero().squeeze(1).tolist()
        assert (graph.edges.sources[out] == node).all()
    torch.testing.assert_close(graph.edges.absolute_sums, matrix.abs().sum(1)[graph.edges.targets])


def test_unselected_features_are_unexplained_leaves() -> None:
    full = random_graph(1)
    nothing_selected = with_selected(full, torch.zeros(len(full.nodes), dtype=torch.bool))
    features, errors = full.nodes.where(NodeKind.FEATURE), full.nodes.where(NodeKind.ERROR)
    assert torch.equal(full.unexplained, errors)
    assert torch.equal(nothing_selected.unexplained, errors | features)
    assert nothing_selected.n_selected == 0
    nothing_selected.validate()


def _node(field: str, index: int, value: int) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        array = getattr(graph.nodes, field).clone()
        array[index] = value
        return replace(graph, nodes=replace(graph.nodes, **{field: array}))

    return change


def _edge(field: str, index: int, value: float) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        array = getattr(graph.edges, field).clone()
        array[index] = value
        return replace(graph, edges=replace(graph.edges, **{field: array}))

    return change


def _swap_last_two_sources(graph: Graph) -> Graph:
    sources = graph.edges.sources.clone()
    sources[-2:] = sources[-2:].flip(0)
    return replace(graph, edges=replace(graph.edges, sources=sources))


# Nodes of random_graph: tokens 0-2, positions 3-5, bias 6, features of layer 0 7-12, errors 13-15; logits are the last.
@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (_node("kind", 0, 9), "nodes.kind"),
        (_node("layer", 0, 0), "nodes.layer"),
        (_node("layer", 7, 3), "nodes.layer"),
        (_node("layer", -1, 2), "nodes.layer"),
        (_node("position", 7, 3), "nodes.position"),
        (_node("position", 7, -1), "nodes.position"),
        (_node("feature", 7, -1), "nodes.feature"),
        (_node("feature", 0, 5), "nodes.feature"),
        (_node("token_id", 0, -1), "nodes.token_id"),
        (_node("token_id", 1, 100), "nodes.token_id"),
        (_node("token_id", -1, 5), "targets"),
        (_edge("weights", 0, float("nan")), "edges.weights"),
        (_edge("offsets", -1, 1), "edges.offsets"),
        (_edge("offsets", 1, -1), "edges.offsets"),
        (_edge("targets", 0, 10_000), "edges.targets"),
        (_edge("targets", 0, 6), "edges.targets"),
        (_edge("sources", 0, -1), "edges.sources"),
        (_edge("sources", -1, 10_000), "edges.sources"),
        (_swap_last_two_sources, "edges.sources"),
        (lambda graph: replace(graph, nodes=replace(graph.nodes, value=graph.nodes.value[1:])), "nodes.value"),
        (lambda graph: replace(graph, nodes=replace(graph.nodes, layer=graph.nodes.layer.long())), "nodes.layer"),
        (lambda graph: replace(graph, nodes=replace(graph.nodes, kind=graph.nodes.kind[:, None])), "nodes.kind"),
        (lambda graph: replace(graph, targets=[]), "targets"),
        (lambda graph: replace(graph, targets=graph.targets[::-1]), "targets"),
        (lambda graph: replace(graph, token_ids=graph.token_ids[1:]), "token_ids"),
        (lambda graph: replace(graph, coder_layers=[3]), "coder_layers"),
        (lambda graph: replace(graph, n_active=graph.n_active + 1), "n_active"),
        (lambda graph: replace(graph, n_selected=graph.n_selected - 1), "n_selected"),
        (lambda graph: replace(graph, explained_share=1.5), "explained_share"),
    ],
)
def test_an_invalid_graph_says_where(spoil: Callable[[Graph], Graph], where: str) -> None:
    with pytest.raises(DataError) as refusal:
        spoil(random_graph(density=1.0)).validate()
    assert refusal.value.where == where


def test_what_breaks_causality_is_refused() -> None:
    """A feature of the last position and an edge into one of the first; two features of one layer."""
    graph = random_graph(n_layers=2, density=1.0)
    first, last = 7, 12
    upper = int((graph.nodes.where(NodeKind.FEATURE) & (graph.nodes.layer == 1)).nonzero()[0])
    into_upper = graph.edges.span(upper)
    sources = graph.edges.sources.clone()
    assert sources[into_upper].tolist() == sorted({*sources[into_upper].tolist()})
    sources[into_upper.stop - 2] = last  # in place of the error at position 0, which keeps the row ascending
    spoilt = replace(graph, edges=replace(graph.edges, sources=sources))
    with pytest.raises(DataError, match="later position"):
        spoilt.validate()
    layer = graph.nodes.layer.clone()
    layer[first] = 1
    spoilt = replace(graph, nodes=replace(graph.nodes, layer=layer))
    with pytest.raises(DataError, match="not above its layer"):
        spoilt.validate()


def test_graphs_are_read_without_transformers() -> None:
    """In a fresh process: what needs a model is there, and is only imported when asked for."""
    program = """
import sys
import clew.circuits as circuits
assert "transformers" not in sys.modules
assert all(hasattr(circuits, name) for name in circuits.__all__)
assert "transformers" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

"""One pass gives the whole series, flow is conserved, and leaving features out never raises a score."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import (
    FLOAT,
    dense,
    few,
    graphs,
    many,
    normalised,
    random_graph,
    series,
    with_selected,
    with_weights,
)

import clew.circuits.influence as influence_module
from clew.circuits import Graph, NodeKind, explained_share, node_influence, scores
from clew.circuits.influence import independent_rows, influence

pytestmark = pytest.mark.science


@many
@given(graphs(), st.integers(0, 99), st.sampled_from([1, 7, influence_module.BLOCK_EDGES]))
def test_one_pass_equals_the_dense_series(graph: Graph, seed: int, block_edges: int) -> None:
    edges = graph.edges
    start = torch.rand(len(graph.nodes), generator=torch.Generator().manual_seed(seed), dtype=FLOAT)
    for begin in (graph.start, start):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(influence_module, "BLOCK_EDGES", block_edges)
            found = influence(edges.targets, edges.offsets, edges.sources, edges.weights, begin)
        torch.testing.assert_close(found, series(normalised(dense(graph)), begin), rtol=1e-12, atol=1e-14)


@many
@given(graphs())
def test_all_influence_starts_at_leaves(graph: Graph) -> None:
    """Less what enters rows of zeros, which have nothing to pass it on to."""
    flow = node_influence(graph)
    lost = flow[graph.edges.targets[graph.edges.absolute_sums == 0]].sum()
    torch.testing.assert_close(flow[graph.leaves].sum() + lost, torch.tensor(1.0, dtype=FLOAT))


@many
@given(graphs())
def test_runs_cover_the_rows_downwards_and_join_none(graph: Graph) -> None:
    edges = graph.edges
    runs = list(independent_rows(edges.targets, edges.offsets, edges.sources))
    assert [row for first, last in runs for row in reversed(range(first, last))] == list(range(len(edges.targets)))[
        ::-1
    ]
    for first, last in runs:
        sources = edges.sources[int(edges.offsets[first]) : int(edges.offsets[last])]
        assert not torch.isin(sources, edges.targets[first:last]).any()
    assert len(runs) <= graph.n_layers + 1


def test_rows_out_of_order_are_refused() -> None:
    edges, start = random_graph().edges, random_graph().start
    with pytest.raises(ValueError, match="ascending"):
        influence(edges.targets.flip(0), edges.offsets, edges.sources, edges.weights, start)
    with pytest.raises(ValueError, match="before its target"):
        influence(edges.targets, edges.offsets, edges.sources + 40, edges.weights, start)


def test_rows_of_zeros_and_of_tiny_numbers() -> None:
    graph = random_graph(3)
    zeros = with_weights(graph, torch.zeros_like(graph.edges.weights))
    assert torch.equal(node_influence(zeros), graph.start)
    nothing = {"no_coder": 0.0, "position_0": 0.0, "coder_error": 0.0, "unselected": 0.0}
    expected = {"replacement": 1.0, "completeness": 1.0, "error_share": 0.0, "error_parts": nothing}
    assert scores(zeros).model_dump() == expected
    tiny = with_weights(graph, graph.edges.weights * 1e-305)
    torch.testing.assert_close(node_influence(tiny), node_influence(graph), rtol=1e-9, atol=0)


@many
@given(graphs())
def test_scores_are_the_dense_formulas(graph: Graph) -> None:
    """As circuit-tracer writes them, with the columns of unselected features among those of errors."""
    normal, start = normalised(dense(graph)), graph.start
    infl, kind = series(normal, start), graph.nodes.kind
    error = (kind == NodeKind.ERROR) | (
        (kind == NodeKind.FEATURE) & ~torch.isin(torch.arange(len(kind)), graph.edges.targets)
    )
    given_ = float(infl[(kind == NodeKind.TOKEN) | (kind == NodeKind.POSITION)].sum())
    unexplained = float(infl[error].sum())
    output = infl + start
    completeness = float((output * (1 - normal[:, error].sum(1))).sum() / output.sum())
    found = scores(graph)
    if given_ + unexplained > 0:
        assert found.replacement == pytest.approx(given_ / (given_ + unexplained), abs=1e-12)
    assert found.completeness == pytest.approx(completeness, abs=1e-12)
    assert sum(found.error_parts.model_dump().values()) == pytest.approx(found.error_share, abs=1e-12)


@few
@given(graphs(all_selected=True), st.integers(0, 999))
def test_selecting_less_never_raises_a_score(graph: Graph, seed: int) -> None:
    order = torch.randperm(len(graph.nodes), generator=torch.Generator().manual_seed(seed))
    whole = scores(graph)
    before = scores(with_selected(graph, torch.zeros(len(graph.nodes), dtype=torch.bool)))
    for cap in range(len(order) + 1):
        selected = torch.zeros(len(order), dtype=torch.bool)
        selected[order[:cap]] = True
        now = scores(with_selected(graph, selected))
        assert before.replacement <= now.replacement + 1e-12
        assert before.completeness <= now.completeness + 1e-12
        assert before.error_share >= now.error_share - 1e-12
        before = now
    assert before == whole


def test_a_cap_that_matters_lowers_every_score() -> None:
    graph = random_graph(5, per_cell=3)
    flow, features = node_influence(graph), graph.nodes.where(NodeKind.FEATURE)
    selected = features & (flow > flow[features].median())
    capped, whole = scores(with_selected(graph, selected)), scores(graph)
    assert capped.replacement < whole.replacement - 0.01
    assert capped.completeness < whole.completeness - 0.01
    assert capped.error_share > whole.error_share + 0.01
    assert 0.5 < explained_share(flow, features, selected) < 1
    assert explained_share(flow, features, features) == 1.0

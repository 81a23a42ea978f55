"""The k best paths are those that listing every path would find."""

import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import dense, graphs, many, normalised, random_graph, with_weights

from clew.circuits import Graph, balance, find_paths, strongest_paths
from clew.circuits.paths import KINDS
from clew_spec.errors import InvalidSpec
from clew_spec.graph import PathFilter

pytestmark = pytest.mark.science


def every_path(graph: Graph, root: int | None = None) -> dict[tuple[int, ...], float]:
    """All paths of positive score from a leaf to a node, the most probable target's logit if none is given."""
    normal, leaves = normalised(dense(graph)), graph.leaves.tolist()
    best = max(range(len(graph.targets)), key=lambda index: graph.targets[index].probability)
    found: dict[tuple[int, ...], float] = {}
    first = len(graph.nodes) - len(graph.targets) + best if root is None else root
    stack: list[tuple[tuple[int, ...], float]] = [((first,), 1.0)]
    while stack:
        path, score = stack.pop()
        if leaves[path[0]]:
            found[path] = score
        sources = normal[path[0]].nonzero().squeeze(1).tolist()
        stack += [((source, *path), score * float(normal[path[0], source])) for source in sources]
    return found


@many
@given(graphs(), st.integers(1, 40))
def test_equals_exhaustive_enumeration(graph: Graph, k: int) -> None:
    every = every_path(graph)
    wanted = sorted(every.values(), reverse=True)[:k]
    found = strongest_paths(graph, k)
    nodes = [tuple(step.node for step in path.steps) for path in found]
    assert [path.score for path in found] == pytest.approx(wanted, rel=1e-12)
    assert len(set(nodes)) == len(found)
    for path, route in zip(found, nodes, strict=True):
        assert path.score == pytest.approx(every[route], rel=1e-12)


@many
@given(graphs(), st.integers(1, 40))
def test_through_features_equals_enumeration_of_circuits(graph: Graph, k: int) -> None:
    circuits = {path: score for path, score in every_path(graph).items() if len(path) > 2}
    found = strongest_paths(graph, k, through_features=True)
    assert [path.score for path in found] == pytest.approx(sorted(circuits.values(), reverse=True)[:k], rel=1e-12)
    assert {tuple(step.node for step in path.steps) for path in found} <= circuits.keys()


def test_all_of_them_share_out_the_whole_logit() -> None:
    graph = random_graph(7, n_layers=2, density=0.7)
    assert math.fsum(path.score for path in strongest_paths(graph, 10**6)) == pytest.approx(1.0)


def test_steps_carry_signed_edges_and_their_shares() -> None:
    graph = random_graph(2)
    matrix = dense(graph)
    for path in strongest_paths(graph, 30):
        assert path.score == pytest.approx(math.prod(step.share for step in path.steps if step.share is not None))
        for here, following in zip(path.steps[:-1], path.steps[1:], strict=True):
            assert here.edge == float(matrix[following.node, here.node])
            assert here.share == pytest.approx(abs(here.edge) / float(matrix[following.node].abs().sum()))
        assert path.steps[-1].edge is None
        assert path.steps[-1].share is None


@pytest.mark.parametrize("width", [3, 5, 6, 7])
def test_equal_paths_beyond_number_do_not_slow_the_search(width: int) -> None:
    """25 layers of interchangeable features: 3^25 paths and more tie, and their products differ by rounding only."""
    graph = random_graph(0, n_layers=25, n_positions=1, per_cell=width, density=1.0, circuit_tracer=True)
    sources, layer = graph.edges.sources.long(), graph.nodes.layer
    adjacent = layer[graph.edges.target_of] - layer[sources] == 1
    chain = with_weights(graph, (adjacent & ~graph.unexplained[sources]).double())
    found = strongest_paths(chain, 50)
    assert len({tuple(step.node for step in path.steps) for path in found}) == len(found) == 50
    assert [path.score for path in found] == pytest.approx([width**-25.0] * 50, rel=1e-12)


def test_nothing_flows_through_zeros() -> None:
    graph = random_graph(4)
    assert strongest_paths(with_weights(graph, torch.zeros_like(graph.edges.weights))) == []


FILTERS = st.lists(
    st.builds(
        PathFilter,
        types=st.none() | st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=2),
        layers=st.none() | st.lists(st.integers(-1, 2), min_size=1, max_size=2),
        positions=st.none() | st.lists(st.integers(0, 2), min_size=1, max_size=2),
        features=st.none() | st.lists(st.sampled_from([0, 1, 10, 11, 20]), min_size=1, max_size=3),
    ),
    max_size=3,
)


def meets(graph: Graph, node: int, wanted: PathFilter) -> bool:
    nodes = graph.nodes
    return (
        (wanted.types is None or nodes.kind[node] in [KINDS[name] for name in wanted.types])
        and (wanted.layers is None or int(nodes.layer[node]) in wanted.layers)
        and (wanted.positions is None or int(nodes.position[node]) in wanted.positions)
        and (wanted.features is None or int(nodes.feature[node]) in wanted.features)
    )


@many
@given(graphs(), st.integers(1, 40), FILTERS, st.none() | st.integers(1, 5), st.randoms())
def test_any_root_filters_and_length_equal_enumeration(
    graph: Graph, k: int, filters: list[PathFilter], length: int | None, random: Random
) -> None:
    root = random.choice((~graph.leaves).nonzero()[:, 0].tolist())
    every = {
        path: score
        for path, score in every_path(graph, root).items()
        if all(any(meets(graph, node, wanted) for node in path[:-1]) for wanted in filters)
        and (length is None or len(path) - 1 <= length)
    }
    found = find_paths(graph, k, root=root, filters=filters, max_length=length)
    assert [path.score for path in found.paths] == pytest.approx(sorted(every.values(), reverse=True)[:k], rel=1e-12)
    assert {tuple(step.node for step in path.steps) for path in found.paths} <= every.keys()
    assert found.coverage == pytest.approx(math.fsum(path.score for path in found.paths))
    assert found.matching == pytest.approx(math.fsum(every.values()), abs=1e-12)


@many
@given(graphs(), st.integers(1, 40))
def test_what_the_nodes_on_paths_are_made_of_adds_up_to_their_values(graph: Graph, k: int) -> None:
    found = find_paths(graph, k)
    balances = balance(graph, found.paths)
    on_paths = {step.node for path in found.paths for step in path.steps}
    assert {each.node for each in balances} == {node for node in on_paths if not graph.leaves[node]}
    for each in balances:
        total = each.kept + each.pruned + each.error + each.bias
        row = float(graph.edges.row(each.node)[1].sum())
        assert total == pytest.approx(row, abs=1e-12)
        assert total + each.rest == pytest.approx(each.value, abs=1e-12)
    every = find_paths(graph, 10**6).paths
    reached = torch.tensor(sorted({step.node for path in every for step in path.steps}), dtype=torch.int32)
    for each in balance(graph, every):
        sources, weights = graph.edges.row(each.node)
        dead_ends = float(weights[~torch.isin(sources, reached)].sum())
        assert each.error == 0, "all paths leave out only what nothing leads to"
        assert each.pruned == pytest.approx(dead_ends, abs=1e-12)


@pytest.mark.parametrize("root", [0, -1, 10**6])
def test_a_root_without_edges_is_refused(root: int) -> None:
    with pytest.raises(InvalidSpec, match="no edges into node"):
        find_paths(random_graph(2), root=root)
    with pytest.raises(InvalidSpec, match="7 filters"):
        find_paths(random_graph(2), filters=[PathFilter()] * 7)

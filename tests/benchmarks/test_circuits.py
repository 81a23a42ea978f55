"""The peer's matrix is read as the edges that it holds: the same graph differs by nothing, another edge by itself."""

import pytest
import torch
from benchmarks.circuits import PeerGraph, Place, compare_edges
from tests.clew.circuits.random_graphs import random_graph

from clew.circuits import Graph, NodeKind

pytestmark = pytest.mark.science

LAYERS, POSITIONS = 3, 4


@pytest.fixture
def ours() -> Graph:
    return random_graph(3, n_layers=LAYERS, n_positions=POSITIONS, circuit_tracer=True)


def as_peer(graph: Graph) -> tuple[PeerGraph, list[int]]:
    """As circuit-tracer orders nodes, its features in another order than ours; and our node of each of its rows."""
    nodes = graph.nodes

    def of(kind: NodeKind) -> list[int]:
        found: list[int] = nodes.where(kind).nonzero()[:, 0].tolist()
        return found

    def by_place(node: int) -> tuple[int, int]:
        return int(nodes.layer[node]), int(nodes.position[node])

    features = of(NodeKind.FEATURE)[::-1]
    order = [*features, *sorted(of(NodeKind.ERROR), key=by_place), *of(NodeKind.TOKEN), *of(NodeKind.LOGIT)[::-1]]
    matrix = torch.zeros(len(nodes), len(nodes), dtype=torch.float64)
    matrix[graph.edges.target_of, graph.edges.sources.long()] = graph.edges.weights.double()
    selected: list[Place] = [(*by_place(node), int(nodes.feature[node])) for node in features]
    logits = [int(nodes.token_id[node]) for node in of(NodeKind.LOGIT)[::-1]]
    return PeerGraph(matrix[order][:, order], selected, graph.token_ids, logits, LAYERS), order


def test_the_same_graph_differs_by_nothing(ours: Graph) -> None:
    peer, _ = as_peer(ours)
    found = compare_edges(ours, peer)
    assert (found.largest, found.missing) == (0, 0)
    assert found.edges == int((ours.edges.shares > 1e-4).sum()), "every edge is compared, those into logits too"


@pytest.mark.parametrize("into", [NodeKind.FEATURE, NodeKind.LOGIT])
@pytest.mark.parametrize("out_of", [NodeKind.TOKEN, NodeKind.ERROR, NodeKind.FEATURE])
def test_one_other_edge_is_found(ours: Graph, into: NodeKind, out_of: NodeKind) -> None:
    peer, order = as_peer(ours)
    kinds = ours.nodes.kind[torch.tensor(order)]
    held = (peer.adjacency != 0) & (kinds == into)[:, None] & (kinds == out_of)[None]
    row, column = held.nonzero()[0].tolist()
    peer.adjacency[row, column] *= 1.25
    assert compare_edges(ours, peer).largest == pytest.approx(0.2)


def test_a_node_that_only_the_peer_has_is_counted(ours: Graph) -> None:
    peer, _ = as_peer(ours)
    peer.selected[0] = (0, 0, 10**6)
    found = compare_edges(ours, peer)
    assert found.missing == 1
    assert found.largest == 0

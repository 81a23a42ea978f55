"""The document tells of the graph what the graph says, in words a reader knows."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import dense, few, graphs, random_graph, with_selected

from clew.circuits import Graph, NodeKind, document, node_influence, scores
from clew_spec.graph import GraphDocument, LogitTarget

pytestmark = pytest.mark.science


@few
@given(graphs(), st.integers(1, 30))
def test_everything_in_it_is_in_the_graph(graph: Graph, view_nodes: int) -> None:
    made = document(graph, "test", view_nodes, n_paths=6)
    matrix, flow = dense(graph), node_influence(graph)
    shown = {node.id: node for node in made.nodes}
    assert [node.id for node in made.nodes] == sorted(shown)
    for node in made.nodes:
        assert node.type == NodeKind(int(graph.nodes.kind[node.id])).name.lower()
        assert node.value == float(graph.nodes.value[node.id])
        assert node.influence == float(flow[node.id])
        assert (node.layer, node.position) == (int(graph.nodes.layer[node.id]), int(graph.nodes.position[node.id]))
        assert (node.feature is None) == (node.type != "feature")
        assert (node.token_id is None) == (node.type not in ("token", "logit"))
        assert (node.probability is None) == (node.type != "logit")
    for edge in made.edges:
        assert edge.source in shown
        assert edge.target in shown
        assert edge.weight == float(matrix[edge.target, edge.source])
    assert {step.node for path in made.paths for step in path.steps} <= set(shown)
    assert [path.score for path in made.paths] == sorted((path.score for path in made.paths), reverse=True)
    assert [node.probability for node in made.nodes if node.type == "logit"] == [t.probability for t in graph.targets]
    assert made.summary.n_edges == int((matrix != 0).sum())
    assert made.summary.scores == scores(graph)
    assert GraphDocument.model_validate_json(made.model_dump_json()) == made


def test_labels() -> None:
    graph = random_graph(n_layers=2, n_positions=3, per_cell=1, density=1.0)
    targets = [
        LogitTarget(token=" Paris", token_id=200, probability=0.704, logit=3.0),
        LogitTarget(token="\n", token_id=201, probability=0.05, logit=1.0),
    ]
    graph = replace(graph, tokens=["The", " city", " "], targets=targets)
    labels = [node.label for node in document(graph, "test", 100).nodes]
    positions = ["position 0", "position 1", "position 2"]
    errors = [["error L0"] * 3, ["error L1"] * 3]
    assert labels == [
        *["The", "city", "␣", *positions],
        *["bias L0", "L0 #0", "L0 #10", "L0 #20", *errors[0]],
        *["bias L1", "L1 #0", "L1 #10", "L1 #20", *errors[1]],
        *["bias output", "Paris (p=0.70)", "⏎ (p=0.05)"],
    ]


def test_summary_tells_what_was_selected() -> None:
    graph = random_graph(3)
    half = torch.arange(len(graph.nodes)) % 2 == 0
    summary = document(with_selected(graph, half), "test", 10).summary
    assert summary.selection.active == graph.n_active
    assert summary.selection.selected == int((graph.nodes.where(NodeKind.FEATURE) & half).sum())
    assert summary.scores.replacement < scores(graph).replacement

"""Roots by what they are, differences of logits as nodes, and the merged graph that its nodes' balances describe."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits import planted as p
from tests.clew.circuits.random_graphs import dense, graphs, many, random_graph
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.toys import toy_coders, toy_model, toy_tokens

from clew.circuits import Graph, NodeKind
from clew.circuits.path_document import path_document, rooted, strongest
from clew_spec.errors import InvalidSpec
from clew_spec.graph import PathFilter
from clew_spec.paths import FeatureRoot, LogitRoot, PathsDocument

pytestmark = pytest.mark.science


def targets_of(graph: Graph) -> list[str]:
    return [target.token for target in graph.targets]


@many
@given(graphs(), st.integers(1, 40), st.none() | st.integers(1, 5))
def test_the_merged_graph_is_what_the_balances_say(graph: Graph, k: int, length: int | None) -> None:
    document = path_document(graph, k=k, max_length=length)
    into: dict[int, list[float]] = {}
    for edge in document.edges:
        assert edge.weight == float(dense(graph)[edge.target, edge.source])
        into.setdefault(edge.target, []).append(edge.weight)
    assert {each.node: each.kept for each in document.balances} == {
        node: pytest.approx(sum(kept), abs=1e-12) for node, kept in into.items()
    }
    assert {node.id for node in document.nodes} == {s.node for path in document.paths for s in path.steps}
    assert all(
        len(path.steps) - 1 <= (length or 99) and path.steps[-1].node == document.root.id for path in document.paths
    )
    assert document.coverage <= document.matching + 1e-12
    assert PathsDocument.model_validate_json(document.model_dump_json()) == document
    short = strongest(document, 2)
    assert (short.paths, short.coverage) == (document.paths[:2], document.coverage)


def test_a_difference_of_two_logits_is_explained_by_the_difference_of_their_edges() -> None:
    """Against a graph that was attributed to the difference."""
    model, tokens_T = toy_model(), toy_tokens(6)
    coders = toy_coders(model)
    graph = graph_of(model, coders, tokens_T, max_logits=3, desired_logit_prob=1.0)
    first, second = targets_of(graph)[:2]
    grown, root = rooted(graph, LogitRoot(token=first, minus=second))
    assert root == len(graph.nodes)
    matrix = dense(graph)
    logits = graph.nodes.where(NodeKind.LOGIT).nonzero()[:, 0]
    expected = matrix[logits[0]] - matrix[logits[1]]
    torch.testing.assert_close(dense(grown)[root, :-1], expected, atol=1e-12, rtol=0)
    document = path_document(graph, LogitRoot(token=first, minus=second), k=30)
    assert (document.root.id, document.root.label) == (root, f"{first} − {second}")
    (last,) = [each for each in document.balances if each.node == root]
    total = last.kept + last.pruned + last.error + last.bias + last.rest
    assert total == pytest.approx(last.value, abs=1e-9), "edges into a difference of logits add up to it"
    assert last.value == pytest.approx(graph.targets[0].logit - graph.targets[1].logit, abs=1e-9)
    influences = {node.id: node.influence for node in path_document(graph, k=2000).nodes}
    assert all(node.influence == influences[node.id] for node in document.nodes[:-1] if node.id in influences)


def test_a_planted_circuit_is_the_strongest_path_to_its_answer_and_to_its_middle() -> None:
    model, coders = p.planted("RMSNorm, sequential")
    graph = graph_of(model, coders, p.TOKENS_T, max_logits=1, desired_logit_prob=0.01)

    def route(document: PathsDocument, rank: int = 0) -> list[Any]:
        nodes = {node.id: node for node in document.nodes}
        steps = [nodes[step.node] for step in document.paths[rank].steps]
        return [(node.layer, node.feature) if node.type == "feature" else node.type for node in steps]

    circuit = ["token", p.SEES_A, p.TWO, p.JOINS]
    answer = path_document(graph, k=5)
    assert route(answer) == [*circuit, "logit"]
    joins = path_document(graph, FeatureRoot(layer=p.JOINS[0], feature=p.JOINS[1], position=5), k=5)
    assert route(joins) == circuit
    inhibited = path_document(graph, k=5, through=[PathFilter(layers=[p.SEES_B[0]], features=[p.SEES_B[1]])])
    assert route(inhibited) == ["token", p.SEES_B, p.JOINS, "logit"]
    assert [step.edge is not None and step.edge < 0 for step in inhibited.paths[0].steps] == [False, True, False, False]
    short = path_document(graph, k=5, max_length=3, through=[PathFilter(features=[p.TWO[1]], layers=[p.TWO[0]])])
    assert short.matching < 1e-12, "the circuit through it is longer"
    (made,) = [each for each in joins.balances if each.node == joins.root.id]
    assert made.kept + made.pruned + made.error + made.bias + made.rest == pytest.approx(made.value, abs=1e-9)


@pytest.mark.parametrize(
    ("root", "where", "detail"),
    [
        (FeatureRoot(layer=0, feature=39, position=2), "/spec/root", "not active at position 2"),
        (LogitRoot(token="nothing"), "/spec/root/token", "explains no 'nothing'"),
        (LogitRoot(token="{0}", minus="nothing"), "/spec/root/minus", "explains no"),
        (LogitRoot(token="{0}", minus="{0}"), "/spec/root/minus", "is no difference"),
        ("unselected", "/spec/root", "no edges into feature"),
    ],
    ids=str,
)
def test_a_root_that_is_not_there_is_refused(root: Any, where: str, detail: str) -> None:
    model = toy_model()
    graph = graph_of(model, toy_coders(model, [0, 1]), toy_tokens(4), max_nodes=3)
    if root == "unselected":
        nodes = graph.nodes
        node = int((nodes.where(NodeKind.FEATURE) & graph.leaves).nonzero()[0, 0])
        place = {name: int(getattr(nodes, name)[node]) for name in ("layer", "feature", "position")}
        root = FeatureRoot.model_validate(place)
    elif isinstance(root, LogitRoot):
        named = {name: text and text.format(*targets_of(graph)) for name, text in dict(root).items() if name != "kind"}
        root = LogitRoot(**named)
    else:
        active = (graph.nodes.layer == 0) & (graph.nodes.position == 2) & graph.nodes.where(NodeKind.FEATURE)
        silent = next(i for i in range(40) if i not in graph.nodes.feature[active].tolist())
        root = root.model_copy(update={"feature": silent})
    with pytest.raises(InvalidSpec, match=detail) as refused:
        path_document(graph, root, k=3)
    assert refused.value.where == where


def test_a_graph_of_differences_gives_those_and_what_lies_between_them() -> None:
    graph = random_graph(3, n_logits=3)
    of_differences = [target.model_copy(update={"minus": "no", "minus_id": 9}) for target in graph.targets[:2]]
    object.__setattr__(graph, "targets", [*of_differences, graph.targets[2]])
    first, second, third = targets_of(graph)
    _, node = rooted(graph, LogitRoot(token=first, minus=" no"))
    assert node == int(graph.nodes.where(NodeKind.LOGIT).nonzero()[0])
    grown, _ = rooted(graph, LogitRoot(token=first, minus=second))
    assert grown.targets[-1].minus == second
    with pytest.raises(InvalidSpec, match="is no difference"):
        rooted(graph, LogitRoot(token=first, minus=third))

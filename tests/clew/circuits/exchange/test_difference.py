"""The difference of two graphs leads from one to the other, and back."""

import pytest
from hypothesis import given
from tests.clew.circuits.random_graphs import few, graphs

from clew.circuits import document
from clew_spec.exchange.difference import difference, name_of
from clew_spec.graph import GraphDocument

pytestmark = pytest.mark.science

pictures = graphs().map(lambda graph: document(graph, "g", 6))


def summed(picture: GraphDocument) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    nodes: dict[str, float] = {}
    edges: dict[tuple[str, str], float] = {}
    names = {node.id: name_of(node) for node in picture.nodes}
    for node in picture.nodes:
        nodes[names[node.id]] = nodes.get(names[node.id], 0.0) + node.influence
    for edge in picture.edges:
        pair = names[edge.source], names[edge.target]
        edges[pair] = edges.get(pair, 0.0) + edge.weight
    return nodes, edges


@few
@given(before=pictures, after=pictures)
def test_a_difference_leads_from_one_graph_to_the_other_and_back(before: GraphDocument, after: GraphDocument) -> None:
    found = difference(before, after)
    nodes, edges = summed(before)
    for change in found.nodes:
        assert change.before == (
            pytest.approx(nodes.pop(change.name), abs=1e-12) if change.before is not None else None
        )
        if change.after is not None:
            nodes[change.name] = change.after
    for edge in found.edges:
        pair = edge.source, edge.target
        assert edge.before == (pytest.approx(edges.pop(pair), abs=1e-12) if edge.before is not None else None)
        if edge.after is not None:
            edges[pair] = edge.after
    wanted_nodes, wanted_edges = summed(after)
    assert nodes == pytest.approx(wanted_nodes, abs=1e-12)
    assert edges == pytest.approx(wanted_edges, abs=1e-12)

    back = difference(after, before)
    assert {(c.name, c.after, c.before) for c in back.nodes} == {(c.name, c.before, c.after) for c in found.nodes}
    assert {(c.source, c.target, c.after, c.before) for c in back.edges} == {
        (c.source, c.target, c.before, c.after) for c in found.edges
    }
    sizes = [abs((change.after or 0) - (change.before or 0)) for change in found.nodes]
    assert sizes == sorted(sizes, reverse=True)


@few
@given(picture=pictures)
def test_a_graph_does_not_differ_from_itself(picture: GraphDocument) -> None:
    found = difference(picture, picture)
    assert (found.nodes, found.edges) == ([], [])

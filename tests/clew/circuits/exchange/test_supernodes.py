"""Supernodes depend on the picture alone, are as alike as was asked for, and lose nothing of what flows."""

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import few, graphs

from clew.circuits import Graph, document
from clew_spec.exchange import neuronpedia
from clew_spec.exchange.supernodes import collapsed, profiles, supernodes
from clew_spec.graph import Edge, GraphDocument

pytestmark = pytest.mark.science

pictures = graphs().map(lambda graph: document(graph, "g", 50))


def shuffled(picture: GraphDocument, seed: int) -> GraphDocument:
    """The same picture, its nodes and edges in another order and the nodes by other numbers."""
    draw = random.Random(seed)  # noqa: S311
    ids = [node.id for node in picture.nodes]
    new = dict(zip(ids, draw.sample(range(1000), len(ids)), strict=True))
    nodes = [node.model_copy(update={"id": new[node.id]}) for node in picture.nodes]
    edges = [Edge(source=new[edge.source], target=new[edge.target], weight=edge.weight) for edge in picture.edges]
    draw.shuffle(nodes)
    draw.shuffle(edges)
    return picture.model_copy(update={"nodes": nodes, "edges": edges})


def places(picture: GraphDocument, similarity: float) -> list[list[tuple[int, int, int | None]]]:
    at = {node.id: (node.layer, node.position, node.feature) for node in picture.nodes}
    return [[at[node] for node in group.nodes] for group in supernodes(picture, similarity=similarity)]


@few
@given(picture=pictures, seed=st.integers(0, 99), similarity=st.floats(0.01, 1))
def test_groups_do_not_depend_on_any_order(picture: GraphDocument, seed: int, similarity: float) -> None:
    assert places(shuffled(picture, seed), similarity) == places(picture, similarity)


@few
@given(picture=pictures, similarity=st.floats(0.05, 1), layers=st.integers(0, 3), positions=st.integers(0, 2))
def test_members_are_alike_and_near_and_no_two_groups_could_be_one(
    picture: GraphDocument, similarity: float, layers: int, positions: int
) -> None:
    groups = supernodes(picture, similarity=similarity, layers=layers, positions=positions)
    nodes = {node.id: node for node in picture.nodes}
    assert all(nodes[member].type == "feature" for group in groups for member in group.nodes)
    members = [member for group in groups for member in group.nodes]
    assert len({*members}) == len(members)
    reads, is_read = profiles(picture.edges)

    def alike(a: int, b: int) -> bool:
        near = abs(nodes[a].layer - nodes[b].layer) <= layers
        near &= abs(nodes[a].position - nodes[b].position) <= positions
        halves = [
            math.fsum(weight * of.get(b, {}).get(other, 0.0) for other, weight in of.get(a, {}).items())
            for of in (reads, is_read)
        ]
        return near and sum(halves) / 2 >= similarity

    whole = [group.nodes for group in groups] + [
        [node.id] for node in picture.nodes if node.type == "feature" and node.id not in members
    ]
    for group in whole:
        assert all(alike(a, b) for a, b in combinations(group, 2))
    for one, other in combinations(whole, 2):
        assert not all(alike(a, b) for a in one for b in other), "they could be one"


@few
@given(picture=pictures)
def test_what_flows_between_groups_is_what_flows_between_their_members(picture: GraphDocument) -> None:
    groups = supernodes(picture, similarity=0.2)
    flows = collapsed(picture.edges, groups)
    assert sum(flow.edges for flow in flows) == len(picture.edges)
    group_of = {node: group.nodes[0] for group in groups for node in group.nodes}
    for flow in flows:
        parts = [
            edge.weight
            for edge in picture.edges
            if (group_of.get(edge.source, edge.source), group_of.get(edge.target, edge.target))
            == (flow.source, flow.target)
        ]
        assert flow.weight == math.fsum(parts)
    influence = {node.id: node.influence for node in picture.nodes}
    for group in groups:
        assert group.influence == math.fsum(influence[node] for node in group.nodes)


@few
@given(graph=graphs(all_selected=True), seed=st.integers(0, 99))
def test_a_feature_cut_in_two_is_one_supernode(graph: Graph, seed: int) -> None:
    """Half of its activation each: what both read is the same, and so are the shares of what reads them."""
    picture = document(graph, "g", 50)
    features = [node for node in picture.nodes if node.type == "feature"]
    if not features:
        return
    whole = random.Random(seed).choice(features)  # noqa: S311
    twin = whole.model_copy(update={"id": 5000, "feature": 5000})
    edges = []
    for edge in picture.edges:
        if edge.source == whole.id:
            half = edge.weight / 2
            edges += [edge.model_copy(update={"weight": half}), Edge(source=5000, target=edge.target, weight=half)]
        elif edge.target == whole.id:
            edges += [edge, edge.model_copy(update={"target": 5000})]
        else:
            edges.append(edge)
    cut = picture.model_copy(update={"nodes": [*picture.nodes, twin], "edges": edges})
    reads, is_read = (whole.id in {getattr(edge, end) for edge in edges} for end in ("target", "source"))
    together = [{*group.nodes} for group in supernodes(cut, similarity=0.45)]
    assert any({whole.id, 5000} <= group for group in together) == (reads or is_read)


@few
@given(picture=pictures)
def test_neuronpedias_viewer_is_told_of_them(picture: GraphDocument) -> None:
    groups = supernodes(picture, similarity=0.2)
    file = neuronpedia.of_document(picture, groups=groups)
    assert neuronpedia.GraphFile.model_validate_json(file.to_json()) == file
    known = {node.node_id for node in file.nodes}
    assert [len(group) - 1 for group in file.qParams.supernodes] == [len(group.nodes) for group in groups]
    assert file.qParams.pinnedIds == [id for group in file.qParams.supernodes for id in group[1:]]
    assert known.issuperset(file.qParams.pinnedIds)

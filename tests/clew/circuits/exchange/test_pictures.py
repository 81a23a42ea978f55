"""Drawings and networkx graphs show what the document says."""

import sys
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.random_graphs import few, graphs, random_graph

from clew.circuits import Graph, document
from clew.circuits.exchange import to_networkx
from clew_spec.errors import Unavailable
from clew_spec.exchange import drawing
from clew_spec.exchange import networkx as of_picture

pytestmark = pytest.mark.science
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>&\"'\x00\x1b\ud800￿\n]]> Größe"


@few
@given(graphs(), st.integers(1, 30))
def test_networkx_holds_every_node_and_edge(graph: Graph, view_nodes: int) -> None:
    whole = to_networkx(graph)
    edges = graph.edges
    triples = zip(edges.sources.tolist(), edges.target_of.tolist(), edges.weights.tolist(), strict=True)
    assert sorted(whole.edges(data="weight")) == sorted(triples)
    assert list(whole.nodes) == list(range(len(graph.nodes)))
    assert networkx.is_directed_acyclic_graph(whole)
    made = document(graph, "test", view_nodes)
    back = networkx.parse_graphml(of_picture.graphml(made), node_type=int)
    assert {node: fields["type"] for node, fields in back.nodes(data=True)} == {n.id: n.type for n in made.nodes}
    assert {(s, t): weight for s, t, weight in back.edges(data="weight")} == {
        (edge.source, edge.target): edge.weight for edge in made.edges
    }
    assert all(fields["strength"] == abs(fields["weight"]) for *_, fields in back.edges(data=True))


@few
@given(graphs(), st.integers(1, 30))
def test_a_drawing_has_every_node_edge_and_sign(graph: Graph, view_nodes: int) -> None:
    made = document(graph, "test", view_nodes)
    text = drawing.svg(made)
    assert drawing.svg(made) == text
    root = ElementTree.fromstring(text)  # noqa: S314
    paths = root.findall(f"{SVG}path")
    assert Counter(path.get("stroke") for path in paths) == Counter(
        drawing.EXCITING if edge.weight >= 0 else drawing.INHIBITING for edge in made.edges
    )
    shapes = [shape for shape in root if shape.tag in (f"{SVG}circle", f"{SVG}rect") and len(shape)]
    assert Counter(shape.get("fill") for shape in shapes) == Counter(drawing.FILL[node.type] for node in made.nodes)
    # Every edge goes up or, from a layer's own bias, across; and no two nodes lie on each other.
    for path in paths:
        (x1, y1, *_, x2, y2) = map(float, (path.get("d") or "").replace("M", "").replace("C", " ").split())
        assert y2 <= y1
        assert (x1, y1) != (x2, y2)
    centres = [(shape.get("cx") or shape.get("x"), shape.get("cy") or shape.get("y")) for shape in shapes]
    assert len(set(centres)) == len(centres)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for shape in shapes:
        assert 0 < float(shape.get("cx") or shape.get("x") or 0) < width
        assert 0 < float(shape.get("cy") or shape.get("y") or 0) < height


def test_text_from_elsewhere_stays_text() -> None:
    graph = random_graph()
    targets = [target.model_copy(update={"token": NASTY}) for target in graph.targets]
    made = document(replace(graph, prompt=NASTY, tokens=[NASTY] * 3, targets=targets), NASTY, 10)
    root = ElementTree.fromstring(drawing.svg(made))  # noqa: S314
    assert root.find(f".//{SVG}script") is None
    assert "<script>&" in "".join(root.itertext())
    assert len(networkx.parse_graphml(of_picture.graphml(made))) == len(made.nodes)


def test_png_is_a_picture_of_the_drawings_size() -> None:
    made = document(random_graph(2), "test", 20)
    root = ElementTree.fromstring(drawing.svg(made))  # noqa: S314
    png = drawing.png(made, zoom=2)
    assert png.startswith(b"\x89PNG")
    size = [int.from_bytes(png[at : at + 4], "big") for at in (16, 20)]
    assert size == [2 * int(root.get("width", 0)), 2 * int(root.get("height", 0))]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph()
    made = document(graph, "test", 10)
    for library, call in (("networkx", lambda: to_networkx(graph)), ("resvg_py", lambda: drawing.png(made))):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, library, None)
            with pytest.raises(Unavailable, match=r"clew\[exchange\]"):
                call()

"""What is loaded is what was saved, to the bit; anything else is refused."""

import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.clew.circuits.random_graphs import few, graphs, random_graph, with_weights

from clew.circuits import Graph, document, load_document, load_graph, save_graph
from clew.circuits.storage import DOCUMENT_FILE, GRAPH_FILE
from clew_spec.errors import DataError

pytestmark = pytest.mark.science


def assert_same(one: Graph, other: Graph) -> None:
    for part in ("nodes", "edges"):
        for field in fields(getattr(one, part)):
            a, b = getattr(getattr(one, part), field.name), getattr(getattr(other, part), field.name)
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    for field in fields(Graph):
        if field.name not in ("nodes", "edges"):
            assert getattr(one, field.name) == getattr(other, field.name)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@few
@given(graphs(), st.sampled_from([torch.float32, torch.float64]), st.floats(0, 1))
def test_round_trip_is_exact_and_repeatable(graph: Graph, dtype: torch.dtype, share: float) -> None:
    graph = replace(with_weights(graph, graph.edges.weights.to(dtype)), explained_share=share, prompt="Größe ✓\n\0")
    made = document(graph, "test", 10)
    with TemporaryDirectory() as root:
        first, second = Path(root) / "a" / "b", Path(root) / "c"
        save_graph(first, graph, made)
        assert_same(load_graph(first), graph)
        assert load_document(first) == made
        save_graph(second, load_graph(first), load_document(first))
        assert digests(first) == digests(second)
        assert set(digests(first)) == {GRAPH_FILE, DOCUMENT_FILE}


@pytest.mark.parametrize("format", ["clew-graph/1", "clew-graph/2"])
def test_graphs_of_earlier_formats_are_read(format: str, tmp_path: Path) -> None:
    """Files as they were written before directions were kept; those of 1, before targets could be given and position 0
    had rules."""
    graph = random_graph()
    save_graph(tmp_path, graph, document(graph, "test", 10))
    path = tmp_path / GRAPH_FILE
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["clew-graph"])
    made = json.loads((tmp_path / DOCUMENT_FILE).read_text())
    assert made["format"] == header["format"] == "clew-graph/3"
    for each in (header, made["summary"]) if format == "clew-graph/1" else ():
        del each["target_rule"], each["position_0"]
        for target in each["targets"]:
            del target["minus"], target["minus_id"]
    header["format"] = made["format"] = format
    save_file(load_file(path), path, metadata={"clew-graph": json.dumps(header)})
    (tmp_path / DOCUMENT_FILE).write_text(json.dumps(made))
    assert_same(load_graph(tmp_path), graph)
    assert load_document(tmp_path).summary == document(graph, "test", 10).summary


def test_arrays_that_share_memory_are_stored(tmp_path: Path) -> None:
    graph = random_graph()
    both = torch.stack([graph.nodes.layer, graph.nodes.position], 1)
    shared = replace(graph, nodes=replace(graph.nodes, layer=both[:, 0], position=both[:, 1]))
    save_graph(tmp_path, shared, document(graph, "test", 10))
    assert_same(load_graph(tmp_path), graph)


def test_an_interrupted_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, other = random_graph(1), random_graph(2)
    save_graph(tmp_path, graph, document(graph, "one", 10))
    before = digests(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        save_graph(tmp_path, other, document(other, "two", 10))
    assert digests(tmp_path) == before


def test_an_invalid_graph_is_never_written(tmp_path: Path) -> None:
    graph = random_graph()
    made = document(graph, "test", 10)
    broken = replace(graph, edges=replace(graph.edges, sources=graph.edges.sources * 0))
    with pytest.raises(DataError, match="ascending"):
        save_graph(tmp_path / "new", broken, made)
    assert not (tmp_path / "new").exists()


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    for load in (load_graph, load_document):
        with pytest.raises(DataError, match="cannot be read"):
            load(tmp_path)
    save_file({"x": torch.ones(2)}, tmp_path / GRAPH_FILE)
    with pytest.raises(DataError, match="not a graph of Clew"):
        load_graph(tmp_path)
    (tmp_path / DOCUMENT_FILE).write_text('{"name": "x"}')
    with pytest.raises(DataError, match="not valid"):
        load_document(tmp_path)


@few
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    """A damaged file is either refused with `DataError`, or still a valid graph; never another error."""
    graph = random_graph(4)
    with TemporaryDirectory() as root:
        folder = Path(root)
        save_graph(folder, graph, document(graph, "test", 10))
        for name, load in ((GRAPH_FILE, load_graph), (DOCUMENT_FILE, load_document)):
            content = bytearray((folder / name).read_bytes())
            if data.draw(st.booleans()):
                content = content[: data.draw(st.integers(0, len(content) - 1))]
                (folder / name).write_bytes(content)
                with pytest.raises(DataError):
                    load(folder)
                continue
            for _ in range(data.draw(st.integers(1, 5))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            (folder / name).write_bytes(content)
            try:
                loaded = load(folder)
            except DataError:
                continue
            if isinstance(loaded, Graph):
                loaded.validate()

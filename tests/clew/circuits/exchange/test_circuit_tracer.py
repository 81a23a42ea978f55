"""circuit-tracer's files give the edges of their matrix, and a pickle that wants more than tensors gets nothing."""

import os
import pickle
import sys
import zipfile
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.exchange.same import edges, keys
from tests.clew.circuits.random_graphs import dense, few, graphs, random_graph

from clew.circuits import Graph, NodeKind, scores
from clew.circuits.exchange import circuit_tracer, read_circuit_tracer
from clew_spec.errors import DataError

pytestmark = pytest.mark.science


def text_of(token: int) -> str:
    return f" t{token - 100}"


def their_file(graph: Graph, *, unselected: int = 0) -> dict[str, Any]:
    """What circuit-tracer would save of a graph in which every feature is selected."""
    nodes = graph.nodes
    features, errors, tokens, logits = (
        nodes.where(kind).nonzero().squeeze(1)
        for kind in (NodeKind.FEATURE, NodeKind.ERROR, NodeKind.TOKEN, NodeKind.LOGIT)
    )
    order = torch.cat([features, errors, tokens, logits])
    active = torch.stack([nodes.layer[features], nodes.position[features], nodes.feature[features]], 1).long()
    others = torch.tensor([[0, 0, 5000 + index] for index in range(unselected)], dtype=torch.int64).reshape(-1, 3)
    return {
        "input_string": graph.prompt,
        "input_tokens": torch.tensor(graph.token_ids),
        "active_features": torch.cat([others, active]),
        "selected_features": torch.arange(len(features)) + unselected,
        "activation_values": torch.cat([torch.full((unselected,), 0.5), nodes.value[features]]),
        "logit_targets": [(target.token, target.token_id) for target in graph.targets],
        "logit_probabilities": torch.tensor([t.probability for t in graph.targets], dtype=torch.float64),
        "adjacency_matrix": dense(graph)[order][:, order],
        "vocab_size": 1000,
        "scan_name": None,
        "cfg": {"n_layers": graph.n_layers},
    }


def read(content: Any, **options: Any) -> Graph:
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.pt")
        torch.save(content, path)
        return read_circuit_tracer(path, text_of, **options)


@few
@given(graphs(all_selected=True, circuit_tracer=True), st.integers(0, 3))
def test_edges_and_values_are_those_of_the_file(graph: Graph, unselected: int) -> None:
    back = read(their_file(graph, unselected=unselected), n_layers=graph.n_layers)
    assert edges(back) == edges(graph)
    assert (back.n_active, back.n_selected) == (graph.n_active + unselected, graph.n_selected)
    assert set(keys(graph)) <= set(keys(back))
    values = dict(zip(keys(back), back.nodes.value.tolist(), strict=True))
    for name, value in zip(keys(graph), graph.nodes.value.tolist(), strict=True):
        assert name[0] != NodeKind.FEATURE or values[name] == value
    assert (back.prompt, back.tokens, back.token_ids) == (graph.prompt, graph.tokens, graph.token_ids)
    assert [(t.token, t.probability) for t in back.targets] == [(t.token, t.probability) for t in graph.targets]
    for target in back.targets:
        into = [weight for (_, end), weight in edges(graph).items() if end[4] == target.token_id]
        assert target.logit == pytest.approx(sum(into))
    assert scores(back).replacement == pytest.approx(scores(graph).replacement)
    assert back.conservation.nodes == 0


def test_older_targets_have_no_text() -> None:
    graph = random_graph(circuit_tracer=True)
    content = their_file(graph) | {"logit_targets": torch.tensor([t.token_id for t in graph.targets])}
    content["scan"] = content.pop("scan_name")
    assert [target.token for target in read(content).targets] == [text_of(t.token_id) for t in graph.targets]


def test_their_own_classes_are_read_without_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = type("UnifiedConfig", (), {"__module__": "circuit_tracer.utils.tl_nnsight_mapping"})
    LogitTarget = namedtuple("LogitTarget", ["token_str", "vocab_idx"])
    LogitTarget.__module__ = "circuit_tracer.attribution.targets"
    for cls in (config, LogitTarget):
        name = cls.__module__
        for depth in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:depth])
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
        setattr(sys.modules[name], cls.__name__, cls)
    graph = random_graph(circuit_tracer=True)
    cfg = config()
    vars(cfg).update(n_layers=3, dtype=torch.bfloat16, tokenizer_name="x")
    targets = [LogitTarget(t.token, t.token_id) for t in graph.targets]
    path = tmp_path / "graph.pt"
    torch.save(their_file(graph) | {"cfg": cfg, "logit_targets": targets}, path)
    monkeypatch.undo()
    assert edges(read_circuit_tracer(path, text_of)) == edges(graph)


class Hostile:
    """Asks whoever unpickles it to make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["cfg", "logit_targets", "adjacency_matrix", "whole", "plain pickle"])
def test_a_hostile_pickle_does_nothing_and_the_reason_is_told(place: str, tmp_path: Path) -> None:
    hostile, path = Hostile(tmp_path / "touched"), tmp_path / "graph.pt"
    if place == "plain pickle":
        path.write_bytes(pickle.dumps(hostile))
    else:
        content = their_file(random_graph(circuit_tracer=True))
        torch.save(hostile if place == "whole" else content | {place: hostile}, path)
    with pytest.raises(DataError, match=r"torch\.save" if place == "plain pickle" else "mkdir"):
        read_circuit_tracer(path, text_of)
    assert not (tmp_path / "touched").exists()


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update({name: change(content[name])})


def poked(place: tuple[int, ...], value: float) -> Callable[[Any], Any]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda content: content.pop("adjacency_matrix"), "adjacency_matrix"),
        (edited("adjacency_matrix", lambda m: m[:-1]), "adjacency_matrix"),
        (edited("adjacency_matrix", lambda m: m[:-1, :-1]), "adjacency_matrix"),
        (edited("adjacency_matrix", lambda m: m[0]), "adjacency_matrix"),
        (edited("adjacency_matrix", poked((-1, 0), float("nan"))), "adjacency_matrix"),
        (edited("adjacency_matrix", poked((0, -1), 1.0)), "adjacency_matrix"),
        (edited("adjacency_matrix", poked((0, 0), 1.0)), "adjacency_matrix"),
        (edited("adjacency_matrix", lambda _: torch.zeros(()).double().expand(10**6, 10**6)), "adjacency_matrix"),
        (edited("adjacency_matrix", lambda m: m.to_sparse()), "adjacency_matrix"),
        (edited("active_features", poked((0, 0), 3)), "active_features"),
        (edited("active_features", poked((0, 1), -1)), "active_features"),
        (edited("active_features", lambda m: m[:, :2]), "active_features"),
        (edited("selected_features", poked((0,), 1)), "selected_features"),
        (edited("selected_features", poked((0,), 999)), "selected_features"),
        (edited("activation_values", lambda m: m[:-1]), "activation_values"),
        (edited("activation_values", lambda m: m.long()), "activation_values"),
        (edited("logit_targets", lambda m: m[:-1]), "logit_targets"),
        (edited("logit_targets", lambda m: [("a", -1)] * len(m)), "logit_targets"),
        (edited("logit_targets", lambda m: [3] * len(m)), "logit_targets"),
        (edited("input_tokens", poked((0,), -1)), "input_tokens"),
        (edited("input_string", lambda _: 3), "input_string"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: Callable[[dict[str, Any]], Any], where: str) -> None:
    content = their_file(random_graph(circuit_tracer=True))
    change(content)
    with pytest.raises(DataError) as refused:
        read(content)
    assert refused.value.where == where


def test_unknown_entries_and_other_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = their_file(random_graph(circuit_tracer=True))
    with pytest.raises(DataError, match="also holds surprise"):
        read(content | {"surprise": 1})
    with pytest.raises(DataError, match="holds a list"):
        read([content])
    with pytest.raises(DataError, match="as the model has"):
        read(content, n_layers=4)
    monkeypatch.setattr(circuit_tracer, "MAX_NODES", 5)
    with pytest.raises(DataError, match="nodes"):
        read(content)


@few
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.pt")
        torch.save(their_file(random_graph(4, circuit_tracer=True)), path)
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            pickled = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        for _ in range(data.draw(st.integers(1, 4))):
            offset = pickled.header_offset + data.draw(st.integers(0, pickled.file_size))
            content[offset] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with suppress(DataError):
            read_circuit_tracer(path, text_of).validate()

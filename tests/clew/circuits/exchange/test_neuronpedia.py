"""What is written is what the schema asks for, comes back as it was, and what is wrong with a file is said."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from tests.clew.circuits.exchange.same import edges, keys
from tests.clew.circuits.random_graphs import few, graphs, random_graph

from clew.circuits import Graph, NodeKind, document, node_influence, prune
from clew.circuits.exchange import neuronpedia, read_neuronpedia, write_neuronpedia
from clew_spec.errors import DataError
from clew_spec.exchange.neuronpedia import cantor, of_document

pytestmark = pytest.mark.science


def fields(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": required | (optional or {})}


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
MAYBE = {"type": ["number", "null"]}
SCHEMA = fields(
    {
        "metadata": fields(
            {
                "slug": STRING,
                "scan": STRING,
                "prompt": STRING,
                "prompt_tokens": {"type": "array", "items": STRING},
            },
            {
                "node_threshold": NUMBER,
                "feature_details": {"type": "object"},
                "info": fields({}, {"create_time_ms": NUMBER, "generator": {"type": "object"}}),
                "generation_settings": {"type": "object"},
                "pruning_settings": fields({}, {"node_threshold": NUMBER, "edge_threshold": NUMBER}),
            },
        ),
        "qParams": fields(
            {},
            {
                "pinnedIds": {"type": "array", "items": STRING},
                "supernodes": {"type": "array"},
                "linkType": STRING,
                "clickedId": STRING,
                "sg_pos": STRING,
            },
        ),
        "nodes": {
            "type": "array",
            "items": fields(
                {
                    "node_id": STRING,
                    "feature": {"type": ["integer", "null"]},
                    "layer": {"type": ["string", "integer"]},
                    "ctx_idx": INTEGER,
                    "feature_type": STRING,
                    "jsNodeId": STRING,
                    "clerp": STRING,
                },
                {"influence": MAYBE, "activation": MAYBE},
            ),
        },
        "links": {"type": "array", "items": fields({"source": STRING, "target": STRING, "weight": NUMBER})},
    }
)
"""What Neuronpedia's `graph-schema.json` (draft 7) demands of a file."""


def read(content: Any, **options: Any) -> Graph:
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_neuronpedia(path, **options)


def written(graph: Graph, threshold: float = 1.0) -> Any:
    made = write_neuronpedia(graph, "test", node_threshold=threshold, edge_threshold=threshold)
    return json.loads(made.to_json())


@few
@given(graphs(), st.sampled_from([0.5, 0.9, 1.0]))
def test_a_round_trip_keeps_nodes_edges_and_values(graph: Graph, threshold: float) -> None:
    kept = prune(graph, threshold, threshold)
    content = written(graph, threshold)
    Draft7Validator(SCHEMA).validate(content)
    back = read(content, bos=graph.bos, n_layers=graph.n_layers)

    names, all_edges = keys(graph), edges(graph)
    ends = zip(graph.edges.sources[kept.edges].tolist(), graph.edges.target_of[kept.edges].tolist(), strict=True)
    assert sorted(keys(back)) == sorted(name for name, keep in zip(names, kept.nodes.tolist(), strict=True) if keep)
    assert edges(back) == {(names[s], names[t]): all_edges[names[s], names[t]] for s, t in ends}
    values = dict(zip(names, graph.nodes.value.tolist(), strict=True))
    features = back.nodes.where(NodeKind.FEATURE).tolist()
    for name, value, feature in zip(keys(back), back.nodes.value.tolist(), features, strict=True):
        assert not feature or value == values[name]
    assert (back.prompt, back.tokens, back.token_ids, back.n_layers) == (
        graph.prompt,
        graph.tokens,
        graph.token_ids,
        graph.n_layers,
    )
    told = [(t.token, t.token_id, t.probability) for t in back.targets]
    assert told == [(t.token, t.token_id, t.probability) for t in graph.targets]
    # And a second one changes nothing at all.
    assert edges(read(written(back), n_layers=graph.n_layers)).items() <= edges(back).items()


@few
@given(graphs())
def test_influence_keeps_its_order(graph: Graph) -> None:
    content = written(graph)
    flow = dict(zip(keys(graph), (node_influence(graph) - graph.start).tolist(), strict=True))
    back = read(content)
    again = dict(zip(keys(back), (node_influence(back) - back.start).tolist(), strict=True))
    # A selected feature that nothing flows into is pruned, and with it what flowed on.
    if {name for name, value in flow.items() if value > 1e-9} <= set(again):
        assert again == pytest.approx({name: flow[name] for name in again}, abs=1e-9)
    # Shares are cumulative over the whole graph: the smaller, the more influence. Nodes without any come last.
    kept = zip(content["nodes"], _kept(graph), strict=True)
    ranked = sorted((node["influence"], -flow[name]) for node, name in kept if node["influence"] is not None)
    assert [value for _, value in ranked] == sorted(value for _, value in ranked)
    total = sum(flow.values())
    for share, negative in ranked:
        more = sum(value for value in flow.values() if value > -negative)
        ties = sum(value for value in flow.values() if value == -negative)
        assert total == 0 or (more - negative) / total - 1e-9 <= share <= (more + ties) / total + 1e-9


def _ids(content: Any) -> list[str]:
    return [node["node_id"] for node in content["nodes"]]


def _kept(graph: Graph) -> list[tuple[int, ...]]:
    names = keys(graph)
    return [names[node] for node in prune(graph, 1.0, 1.0).nodes.nonzero().squeeze(1).tolist()]


def renamed(content: Any, form: str) -> Any:
    """With the errors' ids in another form."""
    new = {
        node["node_id"]: form.format(layer=node["layer"], position=node["ctx_idx"])
        for node in content["nodes"]
        if node["feature_type"] == "mlp reconstruction error"
    }
    text = json.loads(json.dumps(content))
    for node in text["nodes"]:
        node["node_id"] = new.get(node["node_id"], node["node_id"])
    for link in text["links"]:
        link["source"] = new.get(link["source"], link["source"])
    return text


@few
@given(graphs(circuit_tracer=True))
def test_errors_are_read_in_every_form(graph: Graph) -> None:
    content = written(graph)
    assert len(set(_ids(content))) == len(_ids(content))
    wanted = edges(read(content))
    assert edges(read(renamed(content, "{layer}_-1_{position}"))) == wanted
    older = renamed(content, "0_{layer}_{position}")
    # A feature of layer 0 may have an error's id; where only one of the two leads to a target, which is not told.
    leads = Counter((link["source"], link["target"]) for link in older["links"])
    layer = {node["node_id"]: int(node["layer"]) for node in content["nodes"] if node["layer"] != "E"}
    errors = {node["node_id"]: int(node["layer"]) for node in older["nodes"] if node["feature"] == -1}
    ambiguous = any(
        times == 1 and _ids(older).count(source) == 2 and errors[source] < layer[target]
        for (source, target), times in leads.items()
    )
    if ambiguous:
        with pytest.raises(DataError, match="of a feature and of an error"):
            read(older)
    else:
        assert edges(read(older)) == wanted


def test_ids_that_collide_are_told_apart_where_they_can_be() -> None:
    graph = random_graph(density=1.0, circuit_tracer=True)
    older = renamed(written(graph), "0_{layer}_{position}")
    assert len(set(_ids(older))) < len(_ids(older))
    assert edges(read(older)) == edges(read(written(graph)))


def test_a_picture_is_written_like_a_graph() -> None:
    graph = random_graph(5)
    content = json.loads(of_document(document(graph, "test", 30), scan="gpt2").to_json())
    Draft7Validator(SCHEMA).validate(content)
    assert content["metadata"]["scan"] == "gpt2"
    back = read(content)
    assert edges(back).items() <= edges(graph).items()
    logits = [node for node in content["nodes"] if node["feature_type"] == "logit"]
    assert all("(p=" in node["clerp"] and node["layer"] == str(graph.n_layers + 1) for node in logits)


@given(st.integers(0, 200), st.integers(0, 10**6), st.integers(0, 200), st.integers(0, 10**6))
def test_pairs_are_one_to_one(a: int, b: int, c: int, d: int) -> None:
    assert (cantor(a, b) == cantor(c, d)) == ((a, b) == (c, d))
    assert cantor(0, 0) == 0
    assert cantor(1, 2) == 8


def changed(place: str, value: Any) -> Callable[[Any], None]:
    *parts, last = place.split("/")

    def change(content: Any) -> None:
        for part in parts:
            content = content[int(part) if part.isdigit() else part]
        content[int(last) if last.isdigit() else last] = value

    return change


def of_type(kind: str, field: str, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        next(node for node in content["nodes"] if node["feature_type"] == kind)[field] = value

    return change


FEATURE = "cross layer transcoder"


@pytest.mark.parametrize(
    ("change", "where", "detail"),
    [
        (changed("surprise", 1), r"/surprise", "Extra inputs"),
        (changed("nodes/0/surprise", 1), r"/nodes/0/surprise", "Extra inputs"),
        (lambda content: content["nodes"][2].pop("node_id"), "/nodes/2/node_id", "required"),
        (lambda content: content["nodes"].append(content["nodes"][0]), r"/nodes/\d+/node_id", "several nodes"),
        (changed("links/1/source", "0_9999_0"), "/links/1/source", "no node"),
        (changed("links/1/target", "nowhere"), "/links/1/target", "no node"),
        (lambda content: content["links"].append(content["links"][0]), r"/links/\d+", "more than once"),
        (changed("links/0/weight", float("nan")), "/links/0/weight", "finite"),
        (changed("links/0/weight", "1"), "/links/0/weight", "number"),
        (of_type(FEATURE, "activation", float("inf")), r"/nodes/\d+/activation", "finite"),
        (of_type(FEATURE, "feature", 5), r"/nodes/\d+/feature", "has the feature 5"),
        (of_type(FEATURE, "layer", "7"), r"/nodes/\d+/node_id", "name its node"),
        (of_type(FEATURE, "layer", "E"), r"/nodes/\d+/layer", "layer 'E'"),
        (of_type(FEATURE, "ctx_idx", 99), r"/nodes/\d+/ctx_idx", "position"),
        (of_type(FEATURE, "feature_type", "lorsa"), r"/nodes/\d+/feature_type", "lorsa"),
        (of_type("logit", "token_prob", 0.0), r"/nodes/\d+/token_prob", "probability"),
        (of_type("logit", "layer", "9"), r"/nodes/\d+/node_id", "name its node"),
        (of_type("mlp reconstruction error", "layer", "8"), r"/nodes/\d+/layer", "below the logits"),
        (lambda content: content["metadata"]["prompt_tokens"].append("x"), "/metadata/prompt_tokens/3", "no node"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: Callable[[Any], None], where: str, detail: str) -> None:
    content = written(random_graph(1, density=1.0))
    read(content)
    change(content)
    with pytest.raises(DataError, match=detail) as refused:
        read(content)
    assert re.fullmatch(where, refused.value.where or "")


def test_links_that_no_pass_has_are_refused() -> None:
    content = written(random_graph(1, density=1.0))
    link = next(link for link in content["links"] if link["source"][0] == "0" and link["target"][0] == "2")
    link["source"], link["target"] = link["target"], link["source"]
    with pytest.raises(DataError, match="forward pass"):
        read(content)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "[]", "{", "[" * 100_000, "\x80"):
        with pytest.raises(DataError, match="is no graph"):
            read(text)
    with pytest.raises(DataError, match="cannot be read"):
        read_neuronpedia(tmp_path / "none.json")
    with pytest.raises(DataError, match="as the model has 5 layers"):
        read(written(random_graph()), n_layers=5)
    monkeypatch.setattr(neuronpedia, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="bytes"):
        read(written(random_graph()))


def test_a_file_without_features_is_a_graph() -> None:
    graph = read(written(random_graph(per_cell=0)))
    assert graph.coder_layers == []
    assert not torch.isnan(graph.nodes.value).any()

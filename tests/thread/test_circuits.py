"""The analyses of circuits on the running lab, as commands and from Python, through the real queue."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from demo.notebook import NOTEBOOK, output, show

from clew_client import Lab
from clew_spec.attribution import AttributeSpec
from clew_spec.coders import CoderSpec, TopK
from clew_spec.connections import ConnectionsDocument
from clew_spec.datasets import BuildDatasetSpec, PydocSource
from clew_spec.edges import EdgeDocument
from clew_spec.errors import InvalidSpec
from clew_spec.exchange.difference import GraphDifference
from clew_spec.faithfulness import Faithfulness
from clew_spec.graph import GraphDocument
from clew_spec.jobs import JobState
from clew_spec.mean_edges import MeanEdgesDocument
from clew_spec.models import ImportModelSpec
from clew_spec.patching import PatchDocument
from clew_spec.patching import strongest as strongest_patches
from clew_spec.paths import PathsDocument
from clew_spec.qk import QKDocument
from clew_spec.results import (
    ConnectionsResult,
    EdgeResult,
    FaithfulnessResult,
    MeanEdgesResult,
    PatchResult,
    PathsResult,
    QKResult,
    SteerResult,
)
from clew_spec.training import TrainSpec
from tests.thread.conftest import RunningLab

pytestmark = pytest.mark.lab

PROMPT = "A circuit of few features"


@pytest.fixture(scope="module")
def graph(thread: RunningLab) -> GraphDocument:
    """Of coders `first`, of three of the model's four layers."""
    lab = thread.client
    coder = CoderSpec(n_features=64, activation=TopK(k=8))
    sizes: dict[str, Any] = {"steps": 20, "tokens_per_step": 256, "evaluate_every": 20, "evaluate_tokens": 256}
    for spec in (
        ImportModelSpec(name="toy", path=str(thread.imports / "toy")),
        BuildDatasetSpec(
            name="text", model="toy", source=PydocSource(packages=["packaging"]), context=64, max_tokens=20_000
        ),
        TrainSpec(name="first", model="toy", dataset="text", layers=[0, 1, 2], coder=coder, **sizes),
        AttributeSpec(name="graph", coders="first", prompt=PROMPT, max_nodes=200),
    ):
        lab.submit(spec).wait(check=True)
    (found,) = lab.graphs(name="graph")
    return lab.graph_document(found.id)


def clew(thread: RunningLab, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clew_client", *words]
    return subprocess.run(command, env=thread.environ, capture_output=True, text=True, check=False, timeout=120)


def strongest(graph: GraphDocument) -> tuple[int, int, int]:
    """(layer, feature, position)"""
    features = [node for node in graph.nodes if node.type == "feature"]
    found = max(features, key=lambda node: node.influence)
    assert found.feature is not None
    return found.layer, found.feature, found.position


def test_features_are_steered_with_a_prompt_or_a_graph(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    layer, feature, position = strongest(graph)
    edit = f"L{layer}/F{feature}@{position}:scale=0"
    done = clew(thread, "steer", "--graph", "graph", "--edit", edit, "--frozen", "--json")
    assert done.returncode == 0, done.stderr
    result = SteerResult.model_validate(json.loads(done.stdout)["result"])
    assert result.prompt == PROMPT
    assert result.prediction is not None
    assert result.prediction.agreement.pearson == pytest.approx(1, abs=1e-4)
    ((node),) = [n for n in graph.nodes if (n.layer, n.feature, n.position) == (layer, feature, position)]
    (edited,) = result.activations
    assert edited.before == pytest.approx(node.value, rel=1e-4)
    assert edited.after == 0

    shown = clew(thread, "steer", "first", "--prompt", PROMPT, "--edit", edit.replace(":", "..:"), "--tokens", "5")
    assert shown.returncode == 0, shown.stderr
    assert "next token" in shown.stdout
    assert "after" in shown.stdout
    job = lab.steer(
        coders="first",
        prompt=PROMPT,
        edits=[{"layer": layer, "feature": feature, "start": position, "operation": "set", "value": 50.0}],
        tokens=5,
    )
    steered = SteerResult.model_validate(job.wait(check=True).result)
    assert steered.kl > 0
    assert len(steered.text_after or "") > 0
    assert steered.prediction is None
    assert [parent for parent in job.view.parents if parent], "what it was made from is recorded"


def test_a_graph_is_tried_out_on_its_model(thread: RunningLab, graph: GraphDocument, tmp_path: Path) -> None:
    lab: Lab = thread.client
    same, other = PROMPT, "The circuit has few features"
    paraphrases = ["--paraphrase", same, "--paraphrase", other, "--paraphrase", "A few features"]
    done = clew(thread, "faithfulness", "graph", "--nodes", "5", "--json", *paraphrases)
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    result = FaithfulnessResult.model_validate(job["result"])
    (record,) = lab.graphs(name="graph")
    assert result.graph_digest == record.digest
    assert str(record.id) in job["parents"]
    found = result.faithfulness
    assert found.conservation == graph.summary.conservation
    assert found.checks.median < 1e-3
    assert found.stability is not None
    assert found.stability.jaccard[0] == 1, "the prompt itself"
    (file,) = lab.artifacts(job["id"])
    assert Faithfulness.model_validate_json(lab.download(file, tmp_path).read_bytes()) == found
    shown = clew(thread, "show", job["id"])
    assert "CPR" in shown.stdout
    assert job["id"] in [str(each.id) for each in lab.graph("graph").view.analyses]
    of_graph = clew(thread, "graph", "show", "graph")
    assert PROMPT in of_graph.stdout
    assert job["id"][:13] in of_graph.stdout
    with pytest.raises(InvalidSpec) as refused:
        lab.faithfulness(graph="graph", paraphrases=["a", "b", "c" * 1000])
    assert refused.value.where == "/spec/paraphrases/2"


def test_one_prompt_is_patched_into_another(thread: RunningLab, graph: GraphDocument, tmp_path: Path) -> None:
    del graph  # whose coders are not needed, but the model is there then
    lab: Lab = thread.client
    words = [
        "patch",
        "toy",
        "--clean",
        PROMPT,
        "--corrupt",
        PROMPT.replace("few", "new"),
        "--answer",
        "a",
        "--wrong",
        "b",
    ]
    done = clew(thread, *words, "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    result = PatchResult.model_validate(job["result"])
    files = {file.name: lab.download(file, tmp_path) for file in lab.artifacts(job["id"])}
    found = PatchDocument.model_validate_json(files["patch.json"].read_bytes())
    assert found.summary == result.summary
    assert result.strongest == strongest_patches(found, 10)
    by_place = {each.place: each for each in found.maps}
    assert list(by_place) == ["resid", "attn.out", "mlp.out", "head.out"]
    assert by_place["resid"].scores[-1][-1] == pytest.approx(1, abs=1e-3)
    assert by_place["resid"].positions == list(range(len(PROMPT)))
    root = ElementTree.fromstring(files["patch.svg"].read_text())  # noqa: S314
    cells = [cell for cell in root if cell.tag.endswith("rect") and len(cell)]
    shown = len(PROMPT) - found.summary.first_difference
    assert len(cells) == (5 + 4 + 4) * shown + 4 * 4
    assert lab.patching(job["id"]) == found
    picture = str(tmp_path / "patch.png")
    noising = ["--direction", "noising", "--place", "head.pattern", "--head-positions", "--picture", picture]
    table = clew(thread, *words, *noising)
    assert table.returncode == 0, table.stderr
    assert "head.pattern" in table.stdout
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidSpec, match=f"{len(PROMPT)} tokens and the corrupt one 5"):
        lab.patch(model="toy", clean=PROMPT, corrupt="short")


def test_an_edge_is_taken_apart_and_averaged_over_data(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    nodes = {node.id: node for node in graph.nodes}
    logits = [node.id for node in graph.nodes if node.type == "logit"]
    into = [e for e in graph.edges if e.target == logits[0] and nodes[e.source].type == "feature"]
    edge = max(into, key=lambda each: abs(each.weight))
    source = nodes[edge.source]
    name = f"L{source.layer}/F{source.feature}@{source.position}"
    done = clew(thread, "edge", "graph", name, "logit", "--json")
    assert done.returncode == 0, done.stderr
    split = EdgeResult.model_validate(json.loads(done.stdout)["result"]).split
    assert (split.source.id, split.target.id) == (edge.source, edge.target)
    document = lab.document(json.loads(done.stdout)["id"])
    assert isinstance(document, EdgeDocument)
    assert document.parts[: len(split.parts)] == split.parts
    assert split.stored == pytest.approx(edge.weight, rel=1e-5)
    assert split.edge == pytest.approx(edge.weight, rel=1e-3)
    parts = split.direct + sum(part.weight for part in split.parts) + split.rest
    assert parts == pytest.approx(split.edge, rel=1e-3, abs=1e-6)
    assert "last head" in clew(thread, "edge", "graph", name, "logit").stdout
    with pytest.raises(InvalidSpec, match="no position 99") as refused:
        lab.edge(graph="graph", source="token@99", target="logit")
    assert refused.value.where == "/spec/source"

    feature = f"L{source.layer}/F{source.feature}"
    mean = clew(thread, "mean-edges", "first", feature, "--tokens", "512", "--firings", "20", "--json")
    assert mean.returncode == 0, mean.stderr
    found = MeanEdgesResult.model_validate(json.loads(mean.stdout)["result"]).mean_edges
    whole = lab.document(json.loads(mean.stdout)["id"])
    assert isinstance(whole, MeanEdgesDocument)
    assert whole.parts == found.parts
    assert found.firings > 0
    assert sum(part.mean for part in found.parts) == pytest.approx(found.mean_value, rel=1e-3, abs=1e-4)
    assert "mean edge" in clew(thread, "mean-edges", "first", feature, "--tokens", "512", "--firings", "20").stdout


def test_a_heads_attention_is_explained_by_pairs_of_nodes(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    last = len(graph.summary.tokens) - 1
    words = ["qk", "graph", "L2H1", "--query", str(last), "--key", "3"]
    done = clew(thread, *words, "--against", "5", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    told = QKResult.model_validate(job["result"]).qk
    document = lab.document(job["id"])
    assert isinstance(document, QKDocument)
    assert document.pairs[: len(told.pairs)] == told.pairs
    assert told.residual < 1e-5
    assert sum(part.weight for part in told.parts) == pytest.approx(told.score, rel=1e-3, abs=1e-4)
    assert math.log(told.attention / (told.attention_against or 1)) == pytest.approx(told.score, abs=1e-3)
    assert job["id"] in [str(each.id) for each in lab.graph("graph").view.analyses]
    shown = clew(thread, *words)
    assert "all queries of" in shown.stdout, shown.stderr
    with pytest.raises(InvalidSpec, match="comes after") as refused:
        lab.qk(graph="graph", head="L2H1", query=3, key=last)
    assert refused.value.where == "/spec/key"
    weighed = clew(
        thread, "submit", "qk", "--graph", "graph", "--head", "L2H1", "--query", "3", "--key", "1", "--dry-run"
    )
    assert "carrying the head's query and key down" in weighed.stdout, weighed.stderr


def test_graphs_are_grouped_and_compared(thread: RunningLab, graph: GraphDocument, tmp_path: Path) -> None:
    lab: Lab = thread.client
    other = PROMPT.replace("few", "new")
    lab.attribute(name="other", coders="first", prompt=other, max_nodes=200).wait(check=True)
    found = lab.graph("graph").difference(lab.graph("other"))
    assert found.nodes
    shown = clew(thread, "graph", "diff", "graph", "other", "--json")
    assert GraphDifference.model_validate_json(shown.stdout) == found
    assert "influence before" in clew(thread, "graph", "diff", "graph", "other").stdout
    groups = lab.graph("graph").supernodes(0.3)
    told = clew(thread, "graph", "supernodes", "graph", "--similarity", "0.3", "--json")
    assert [group["nodes"] for group in json.loads(told.stdout)] == [group.nodes for group in groups]
    file = tmp_path / "grouped.json"
    done = clew(thread, "graph", "export", "graph", "--supernodes", "0.3", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(file.read_text())["qParams"]["supernodes"]) == len(groups)


def test_position_0_is_steered_where_a_graph_has_features_there(thread: RunningLab, graph: GraphDocument) -> None:
    del graph
    lab: Lab = thread.client
    lab.attribute(name="from-0", coders="first", prompt=PROMPT, max_nodes=200, position_0="features").wait(check=True)
    found = lab.graph("from-0").document
    at_0 = max((n for n in found.nodes if n.type == "feature" and n.position == 0), key=lambda node: node.influence)
    edit = {"layer": at_0.layer, "feature": at_0.feature, "start": 0, "stop": 1, "operation": "ablate"}
    steered = SteerResult.model_validate(lab.steer(graph="from-0", edits=[edit]).wait(check=True).result)
    (edited,) = steered.activations
    assert edited.before == pytest.approx(at_0.value, rel=1e-4)
    assert (edited.position, edited.after) == (0, 0)
    with pytest.raises(InvalidSpec, match="position 0 has no features"):
        lab.steer(graph="graph", edits=[edit])


def test_what_the_weights_connect_is_told_of_a_feature(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    job = lab.connections(coders="first", layer=1, feature=7, upstream=3, heads=["L1H0", "L2H1"])
    document = job.document()
    assert isinstance(document, ConnectionsDocument)
    assert [each.layer for each in document.upstream] == [0] * 3
    assert [head.side for head in document.through] == ["upstream", "downstream"]
    result = ConnectionsResult.model_validate(job.view.result)
    assert result.connections.upstream == document.upstream
    assert job.view.kind == "connections"
    done = clew(thread, "connections", "first", "L1/F7", "--upstream", "3", "--heads", "L1H0", "--heads", "L2H1")
    assert done.returncode == 0, done.stderr
    assert "Through L2H1, downstream" in done.stdout
    assert f"F{document.upstream[0].feature} {document.upstream[0].weight:+.3g}" in done.stdout
    assert "promotes most" in clew(thread, "show", str(job.id)).stdout
    wrong = clew(thread, "connections", "first", "L1/F64")
    assert (wrong.returncode, "has no feature 64" in wrong.stderr) == (2, True)


def test_the_paths_of_a_graph_are_found_without_its_model(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    (record,) = lab.graphs(name="graph")
    job = lab.paths(graph="graph", paths=40)
    document = job.document()
    assert isinstance(document, PathsDocument)
    assert job.view.parents == [record.id]
    assert [path.score for path in document.paths] == sorted((path.score for path in document.paths), reverse=True)
    assert document.paths[0].score == pytest.approx(graph.paths[0].score)
    result = PathsResult.model_validate(job.view.result)
    assert (result.n_paths, result.graph_digest) == (40, record.digest)
    layer, feature, position = strongest(graph)
    root = f"L{layer}/F{feature}@{position}"
    done = clew(thread, "paths", "graph", "--root", root, "--through", "token", "--max-length", "3")
    assert done.returncode == 0, done.stderr
    assert f"To {root}" in done.stdout
    tokens = [target.token for target in graph.summary.targets]
    first, second = [token for token in tokens if token.isprintable() and tokens.count(token) == 1][:2]
    difference = clew(thread, "paths", "graph", "--root", first, "--minus", second, "--json")
    assert difference.returncode == 0, difference.stderr
    found = PathsResult.model_validate(json.loads(difference.stdout)["result"]).paths
    logit = {target.token: target.logit for target in graph.summary.targets}
    assert found.root.value == pytest.approx(logit[first] - logit[second], rel=1e-4, abs=1e-4)
    with pytest.raises(InvalidSpec, match="explains no"):
        lab.paths(graph="graph", root={"kind": "logit", "token": "no such target"})
    silent = {"kind": "feature", "layer": 0, "feature": 63, "position": 0}
    ended = lab.paths(graph="graph", root=silent).wait()
    assert ended.error is not None
    assert "not active" in ended.error.detail


def test_what_cannot_be_steered_is_refused_or_fails_with_its_reason(thread: RunningLab, graph: GraphDocument) -> None:
    lab: Lab = thread.client
    edit = {"layer": 0, "feature": 1, "operation": "ablate"}
    for wrong, where in (({"layer": 3}, "layer"), ({"feature": 64}, "feature"), ({"start": 99}, "start")):
        with pytest.raises(InvalidSpec) as refused:
            lab.steer(graph="graph", edits=[edit | wrong])
        assert refused.value.where == f"/spec/edits/0/{where}"
    known = {(node.layer, node.feature) for node in graph.nodes}
    silent = next(f for f in range(64) if (0, f) not in known)
    ended = lab.steer(graph="graph", edits=[edit | {"feature": silent, "operation": "set", "value": 1.0}]).wait()
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert "is not active" in ended.error.detail


def test_the_notebook_does_what_it_says(
    thread: RunningLab, graph: GraphDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEW_CONFIG", thread.environ["CLEW_CONFIG"])
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    ours = {'"demo"': '"first"', "When Mary and John went to the store, John gave a drink to": PROMPT}
    sources = ["".join(cell["source"]) for cell in cells]
    for theirs, here in ours.items():
        assert any(theirs in source for source in sources)
        sources = [source.replace(theirs, here) for source in sources]
    me, trained, curves, picture, features, degrees, connected = show(sources)
    assert me.endswith(f"in project {thread.client.session().project}")
    assert list(trained["features"]) == [64] * 3
    assert (trained["last FVU"] < trained["first FVU"]).all()
    assert curves.index.max() == 20
    forms = output(picture, 1)["data"]
    assert forms["image/svg+xml"].startswith("<svg")
    assert len(picture.document.nodes) > 8
    layer, feature, _ = strongest(picture.document)
    assert (features["layer"][0], features["feature"][0]) == (layer, feature)
    assert sum(degrees) > 0
    assert {"side"} <= set(connected.columns)
    assert "<table" in output(connected, 2)["data"]["text/html"]

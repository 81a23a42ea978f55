"""The analyses of circuits on the running lab, as commands and from Python, through the real queue."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew_client import Lab
from clew_spec.attribution import AttributeSpec
from clew_spec.coders import CoderSpec, TopK
from clew_spec.connections import ConnectionsDocument
from clew_spec.datasets import BuildDatasetSpec, PydocSource
from clew_spec.errors import InvalidSpec
from clew_spec.faithfulness import Faithfulness
from clew_spec.graph import GraphDocument
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from clew_spec.paths import PathsDocument
from clew_spec.results import ConnectionsResult, FaithfulnessResult, PathsResult, SteerResult
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
    assert (edited.before, edited.after) == (pytest.approx(node.value, rel=1e-4), 0)

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


def test_the_lines_for_a_notebook_do_what_they_say(
    thread: RunningLab, graph: GraphDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs/notebook.md").read_text()
    lines = text.split("```python")[1].split("```")[0].replace('"paris"', '"graph"')
    monkeypatch.setenv("CLEW_CONFIG", thread.environ["CLEW_CONFIG"])
    said: dict[str, Any] = {}
    exec(compile(lines, "docs/notebook.md", "exec"), said)  # noqa: S102
    assert said["graph"]._repr_svg_().startswith("<svg")
    assert said["digraph"].number_of_nodes() == len(graph.nodes)
    layer, feature, _ = strongest(graph)
    assert (said["found"].layer, said["found"].feature) == (layer, feature)
    assert {row["side"] for row in said["table"]} == {"upstream", "downstream"}
    said["lab"].close()

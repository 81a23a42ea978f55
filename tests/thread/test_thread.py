"""From a submitted job to a circuit on the running lab: import, dataset, training, evaluation, graph."""

import gzip
import hashlib
import json
from pathlib import Path
from uuid import UUID

import pytest
import torch

from clew_client import Lab
from clew_client.cli import main
from clew_spec.api import JobView
from clew_spec.attribution import AttributeSpec
from clew_spec.base import Spec
from clew_spec.coders import CoderSpec, TopK
from clew_spec.datasets import BuildDatasetSpec, JsonlSource, PydocSource
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.exporting import ExportCodersSpec
from clew_spec.graph import GraphDocument
from clew_spec.importing import ImportCodersSpec
from clew_spec.importing_graphs import ImportGraphSpec
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from clew_spec.results import EvaluationResult
from clew_spec.training import TrainSpec
from tests.support.waiting import until
from tests.thread.conftest import RunningLab
from tests.thread.toy_lm import write_model

pytestmark = pytest.mark.lab

SOURCE = PydocSource(packages=["packaging", "pydantic"])


def done(lab: Lab, spec: Spec) -> JobView:
    return lab.submit(spec).wait(check=True)


def train_spec(name: str, steps: int = 500) -> TrainSpec:
    """Long enough that its runner still works when its first checkpoint is told."""
    return TrainSpec(
        name=name,
        model="toy",
        dataset="text",
        layers=[0, 1, 2],
        coder=CoderSpec(n_features=64, activation=TopK(k=8)),
        steps=steps,
        tokens_per_step=256,
        evaluate_every=100,
        checkpoint_every=25,
        evaluate_tokens=256,
    )


@pytest.fixture(scope="module")
def toy(thread: RunningLab) -> str:
    """A model's name."""
    done(thread.client, ImportModelSpec(name="toy", path=str(thread.imports / "toy")))
    return "toy"


@pytest.fixture(scope="module")
def trained(thread: RunningLab, toy: str) -> JobView:
    """A model, a dataset and the coders of an undisturbed training."""
    lab = thread.client
    done(lab, BuildDatasetSpec(name="text", model=toy, source=SOURCE, context=64, max_tokens=40_000))
    return done(lab, train_spec("first"))


def test_every_stage_leaves_what_the_next_one_needs(thread: RunningLab, trained: JobView, tmp_path: Path) -> None:
    lab = thread.client
    (model,), (dataset,) = lab.models(name="toy"), lab.datasets(name="text")
    coders = {coder.layer: coder for coder in lab.coders(job=trained.id)}
    assert sorted(coders) == [0, 1, 2]
    for coder in coders.values():
        assert coder.fvu_first is not None
        assert coder.fvu_last is not None
        assert coder.fvu_last < coder.fvu_first
        assert coder.lineage.model_digest == model.digest
        assert coder.lineage.dataset_digest == dataset.digest
        assert {UUID(parent) for parent in coder.lineage.parents} == {model.id, dataset.id}

    evaluation = done(lab, EvaluateSpec(coders="first", tokens=256))
    measured = [coder.metrics for coder in lab.coders(job=trained.id)]
    for metrics in measured:
        assert metrics is not None
        recovered = (metrics.ce_zero - metrics.ce_spliced) / (metrics.ce_zero - metrics.ce_original)
        assert metrics.loss_recovered_zero == pytest.approx(recovered)
        assert 0 < metrics.l0 <= 8
    assert len({metrics.ce_original for metrics in measured if metrics}) == 1
    assert evaluation.result is not None
    at_once = EvaluationResult.model_validate(evaluation.result).all_replaced
    assert at_once is not None
    assert [each.layer for each in at_once.layers] == [0, 1, 2]

    attribution = done(lab, AttributeSpec(name="graph", coders=str(trained.id), prompt="A circuit", max_nodes=100))
    (graph,) = lab.graphs(job=attribution.id)
    assert graph.summary.conservation.max_relative_to_edges <= 5e-6
    assert graph.summary.coder_layers == [0, 1, 2]
    document = lab.graph_document(graph.id)
    files = {artifact.name: artifact for artifact in lab.artifacts(attribution.id)}
    downloaded = lab.download(files["graph/graph.json"], tmp_path)
    assert GraphDocument.model_validate_json(downloaded.read_bytes()) == document


def test_a_dataset_comes_of_files_below_the_import_roots(thread: RunningLab, toy: str) -> None:
    folder = thread.imports / "texts"
    folder.mkdir()
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        texts = (hashlib.sha256(str(number).encode()).hexdigest() * 4 for number in range(99))
        file.writelines(json.dumps({"body": text}) + "\n" for text in texts)
    source = JsonlSource(path=str(folder), field="body")
    spec = BuildDatasetSpec(name="files", model=toy, source=source, context=64, heldout_fraction=0.3)
    assert done(thread.client, spec).result is not None
    (dataset,) = thread.client.datasets(name="files")
    assert dataset.heldout_tokens > 0
    assert dataset.source | source.model_dump() == dataset.source
    assert dataset.source["files_read"] == 1


def test_coders_leave_for_another_project_and_come_back(thread: RunningLab, trained: JobView, tmp_path: Path) -> None:
    lab = thread.client
    every = train_spec("every", steps=50).model_copy(update={"layers": [0, 1, 2, 3]})
    done(lab, every)
    export = done(lab, ExportCodersSpec(coders="every", format="circuit-tracer", tokens=512))
    files = {artifact.name: artifact for artifact in lab.artifacts(export.id)}
    assert sorted(files) == ["export/config.yaml", *(f"export/layer_{i}.safetensors" for i in range(4)), "report.json"]
    report = json.loads(lab.download(files["report.json"], tmp_path).read_bytes())
    folder = thread.imports / "theirs"
    folder.mkdir()
    for name, artifact in files.items():
        if name.startswith("export/"):
            (folder / Path(name).name).write_bytes(lab.download(artifact, tmp_path).read_bytes())

    spec = ImportCodersSpec(name="back", path=str(folder), model="toy", dataset="text", bos="none")
    back = done(lab, spec)
    coders = {coder.layer: coder for coder in lab.coders(job=back.id)}
    assert sorted(coders) == [0, 1, 2, 3]
    assert {coder.config.activation.kind for coder in coders.values()} == {"jumprelu"}
    assert coders[0].lineage.source is not None
    assert coders[0].lineage.source["format"] == "circuit-tracer"
    # What the report says of the same held-out rows is what evaluations of both sets find.
    assert [cost["layer"] for cost in report["calibration"]] == [0, 1, 2, 3]
    for name, when in (("every", "before"), ("back", "after")):
        done(lab, EvaluateSpec(coders=name, tokens=512))
        measured = {coder.layer: coder.metrics for coder in lab.coders(name=name)}
        for cost in report["calibration"]:
            metrics = measured[cost["layer"]]
            assert metrics is not None
            assert metrics.fvu == pytest.approx(cost[f"fvu_{when}"], rel=1e-4)
            assert metrics.l0 == pytest.approx(cost[f"l0_{when}"], rel=1e-4)

    unknown = done(lab, spec.model_copy(update={"name": "unknown", "dataset": None}))
    assert [coder.dataset_id for coder in lab.coders(job=unknown.id)] == [None] * 4
    with pytest.raises(InvalidSpec, match="is not known"):
        lab.submit(EvaluateSpec(coders="unknown"))
    with pytest.raises(InvalidSpec, match="TopK alone"):
        lab.submit(ExportCodersSpec(coders="back", format="sparsify"))
    with pytest.raises(InvalidSpec, match=r"layers \[1\]"):
        lab.submit(ExportCodersSpec(coders=str(coders[1].id), format="circuit-tracer"))
    with pytest.raises(InvalidSpec, match="outside the import roots"):
        lab.submit(spec.model_copy(update={"path": "/etc"}))
    (folder / "config.yaml").unlink()
    failed = lab.submit(spec).wait()
    assert failed.error is not None
    assert "no known format" in failed.error.detail


def test_a_graph_leaves_for_another_project_and_comes_back(
    thread: RunningLab, trained: JobView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = thread.client
    done(lab, AttributeSpec(name="away", coders=str(trained.id), prompt="A circuit", max_nodes=50))
    left = lab.graph("away")
    file = thread.imports / "away.json"
    monkeypatch.delenv("CLEW_URL", raising=False)
    monkeypatch.delenv("CLEW_KEY", raising=False)
    monkeypatch.setenv("CLEW_CONFIG", thread.environ["CLEW_CONFIG"])
    for form in ("neuronpedia", "svg", "png", "graphml", "json"):
        path = file if form == "neuronpedia" else tmp_path / f"graph.{form}"
        with pytest.raises(SystemExit, match="0"):
            main(["graph", "export", "away", "--as", form, "-o", str(path)])
        assert path.read_bytes() == left.to(form)

    spec = ImportGraphSpec(name="home", path=str(file), model="toy", bos="none")
    job = done(lab, spec)
    home = lab.graph("home")
    assert home.view.job_id == job.id
    assert home.view.lineage.source is not None
    assert home.view.lineage.source["format"] == "neuronpedia"
    assert home.view.summary.token_ids == left.view.summary.token_ids
    assert home.view.summary.n_nodes == len(left.document.nodes)
    assert home.view.summary.n_edges == len(left.document.edges)
    weights = {weight for _, _, weight in left.to_networkx().edges(data="weight")}
    assert {edge.weight for edge in home.document.edges} <= weights

    with pytest.raises(InvalidSpec, match="outside the import roots"):
        lab.submit(spec.model_copy(update={"path": "/etc/graph.json"}))
    with pytest.raises(InvalidSpec, match="no file of a graph"):
        lab.submit(spec.model_copy(update={"path": str(thread.imports / "graph.pkl")}))
    hostile = thread.imports / "hostile.pt"
    torch.save({"cfg": print}, hostile)
    failed = lab.submit(spec.model_copy(update={"path": str(hostile)})).wait()
    assert failed.error is not None
    assert "print" in failed.error.detail


def test_a_runner_killed_in_mid_training_changes_nothing(thread: RunningLab, trained: JobView) -> None:
    lab = thread.client
    job = lab.submit(train_spec("killed"))
    for event in job.events():
        if event.type == "checkpoint":
            break
    (runner,) = thread.processes("clew_worker.runner", "--max-jobs", "1")
    runner.kill()
    view = job.wait(check=True)
    assert view.lost_count == 1
    assert view.failure_count == 0
    assert [attempt.outcome for attempt in view.attempts] == ["lost", "succeeded"]
    digests = {coder.layer: coder.digest for coder in lab.coders(job=trained.id)}
    assert {coder.layer: coder.digest for coder in lab.coders(job=view.id)} == digests
    undisturbed = {series.name: series for series in lab.metrics(trained.id)}
    for series in job.metrics():
        assert series.steps == undisturbed[series.name].steps
        if series.name != "tokens_per_s":
            assert series.values == undisturbed[series.name].values


def test_a_cancelled_training_leaves_nothing_behind(thread: RunningLab, trained: JobView) -> None:
    lab = thread.client
    running = lab.submit(train_spec("cancelled", steps=100_000))
    waiting = lab.submit(train_spec("never", steps=100_000))
    until(lambda: running.refresh().state is JobState.RUNNING, "the first job runs")
    waiting.cancel()
    assert waiting.wait().state is JobState.CANCELLED
    running.cancel()
    view = running.wait()
    assert view.state is JobState.CANCELLED
    assert lab.artifacts(view.id) == []
    assert list(lab.coders(name="cancelled")) == []
    until(lambda: not thread.processes("clew_worker.runner", "--max-jobs", "1"), "the runner is gone")


def test_a_truncated_model_fails_with_its_reason(thread: RunningLab, trained: JobView) -> None:
    folder = write_model(thread.imports / "truncated")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    view = thread.client.submit(ImportModelSpec(name="truncated", path=str(folder))).wait()
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.type == "urn:clew:model-error"
    assert list(thread.client.models(name="truncated")) == []


def test_a_truncated_gguf_fails_with_its_reason(thread: RunningLab, trained: JobView) -> None:
    file = thread.imports / "truncated.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(100))
    view = thread.client.submit(ImportModelSpec(name="cut", path=str(file))).wait()
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert "GGUF" in view.error.detail
    assert list(thread.client.models(name="cut")) == []


def test_another_tokenizers_dataset_is_refused_at_once(thread: RunningLab, trained: JobView) -> None:
    folder = write_model(thread.imports / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    done(thread.client, ImportModelSpec(name="other", path=str(folder)))
    spec = train_spec("mixed").model_copy(update={"model": "other"})
    with pytest.raises(InvalidSpec) as refused:
        thread.client.submit(spec)
    assert refused.value.where == "/spec/dataset"

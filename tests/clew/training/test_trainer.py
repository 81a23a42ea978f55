"""One stream, many coders; and a run that was interrupted is the run that was not."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.clew.toys import toy_model

from clew.coders import load_coder
from clew.data import Batch, Dataset, Rows
from clew.evaluation import evaluate
from clew.models import Model
from clew.reporting import Silent, StopRequested
from clew.training import RunState, train
from clew.training.activations import Activations, route
from clew.training.checks import check_finite
from clew.training.gradients import JointLoss
from clew.training.optimizer import rate_at
from clew.training.stream import TokenStream
from clew_spec.coders import CoderSpec, TopK
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.results import Lineage, TrainedCoder
from clew_spec.training import OptimizerSpec, TrainSpec

pytestmark = pytest.mark.science

STEPS = 13
LINEAGE = Lineage(code_version="test")


def spec(**changes: Any) -> TrainSpec:
    values: dict[str, Any] = {
        "layers": [0, 2],
        "steps": STEPS,
        "tokens_per_step": 50,  # three rows of 16
        "coder": CoderSpec(n_features=40, activation=TopK(k=4)),
        "optimizer": OptimizerSpec(warmup_steps=3),
        "log_every": 2,
        "evaluate_every": 5,
        "evaluate_tokens": 60,
        "checkpoint_every": 4,
    }
    return TrainSpec(name="set", model="m", dataset="d", **(values | changes))


class Recorder(Silent):
    """Keeps what a run reports, and asks it to stop after a step."""

    def __init__(self, *, stop_after: int | None = None, steps: int = STEPS) -> None:
        self.steps = steps
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.done: list[float] = []
        self.checkpoints: list[Path] = []
        self.stop_after = stop_after

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        self.metrics.append((step, {k: v for k, v in values.items() if k != "tokens_per_s"}))

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        if phase != "training":
            return
        assert unit == "tokens"
        assert done <= total == 48 * self.steps
        self.done.append(done / 48)

    def stop_requested(self) -> bool:
        started = bool(self.metrics or self.done)
        return started and self.stop_after is not None and (self.done[-1] if self.done else 0) >= self.stop_after

    def on_checkpoint(self, step: int, folder: Path) -> None:
        assert folder.name == f"{step:08d}"
        assert (folder / "state.json").is_file()
        self.checkpoints.append(folder)


def run(
    model: Model,
    dataset: Dataset,
    out: Path,
    report: Recorder | None = None,
    *,
    resume: Path | None = None,
    model_digest: str = "m" * 64,
    prefetch: bool | None = None,
    **changes: Any,
) -> list[TrainedCoder]:
    report = report or Recorder()
    return train(
        model,
        dataset,
        spec(**changes),
        model_digest=model_digest,
        tokenizer_digest="t" * 64,
        lineage=LINEAGE,
        out=out,
        on_checkpoint=report.on_checkpoint,
        resume=resume,
        report=report,
        prefetch=prefetch,
    )


Whole = tuple[list[TrainedCoder], Recorder]


@pytest.fixture(scope="module")
def whole(model: Model, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    torch.set_num_threads(1)
    report = Recorder()
    return run(model, dataset, tmp_path_factory.mktemp("whole"), report), report


def test_heldout_fvu_falls_at_every_layer_and_is_the_stored_coders_own(
    model: Model, larger_dataset: Dataset, tmp_path: Path
) -> None:
    trained = run(model, larger_dataset, tmp_path, Recorder(steps=100), steps=100, evaluate_tokens=80, layers=[0, 1, 2])
    assert [each.layer for each in trained] == [0, 1, 2]
    for each in trained:
        first, last = each.trained_fvu
        assert last < 0.85 * first
        coder = load_coder(tmp_path / "coders" / f"L{each.layer:02d}")
        assert coder.config == each.config
        ((_, x_ND, y_ND),) = Activations(
            model, Batch(larger_dataset.heldout[:]), [route(each.layer, ("mlp.in", "mlp.out"))]
        )
        assert len(x_ND) == 5 * 15, "position 0 of each row is left out"
        error, spread = (y_ND - coder.forward(x_ND)).square().sum(), (y_ND - y_ND.mean(0)).square().sum()
        assert each.fvu_last == pytest.approx(float(error / spread), rel=1e-10)


def test_what_is_trained_on_documents_says_so_and_is_measured_on_them(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    segments_T = torch.arange(3, dtype=torch.int16).repeat_interleave(torch.tensor([5, 1, 10]))

    def of_documents(rows: Rows) -> Rows:
        return Rows(rows.tokens_NT, tuple(segments_T.expand_as(shard_NT) for shard_NT in rows.tokens_NT), "document")

    manifest = dataset.manifest.model_copy(update={"attention": "document"})
    documents = Dataset(manifest, of_documents(dataset.train), of_documents(dataset.heldout))
    trained = run(model, documents, tmp_path, evaluate_tokens=80)
    coders = {each.layer: load_coder(tmp_path / "coders" / f"L{each.layer:02d}") for each in trained}
    assert [coder.config.attention for coder in coders.values()] == ["document"] * 2
    measured = evaluate(model, coders, documents.heldout, tokens=80, replace_all=False).coders
    assert [each.tokens for each in measured] == [5 * (4 + 0 + 9)] * 2
    assert [each.fvu for each in measured] == pytest.approx([each.fvu_last for each in trained], rel=1e-10)


def test_metrics_come_when_they_should(whole: Whole) -> None:
    trained, report = whole
    trains = {"L00/fvu", "L02/fvu", "L00/l0", "L02/l0", "lr"}
    heldout = {"L00/heldout_fvu", "L02/heldout_fvu"}
    assert {step: set(values) for step, values in report.metrics} == {
        0: heldout,
        **dict.fromkeys((2, 4, 6, 8, 12), trains),
        5: heldout,
        10: trains | heldout,
        STEPS: trains | heldout,
    }
    assert report.done == list(range(1, STEPS + 1))
    assert [folder.name for folder in report.checkpoints] == ["00000004", "00000008", "00000012"]
    first, last = report.metrics[0][1], report.metrics[-1][1]
    assert [(each.fvu_first, each.fvu_last) for each in trained] == [(first[n], last[n]) for n in sorted(heldout)]
    assert all(0 < values["L00/l0"] <= 4 for _, values in report.metrics if "L00/l0" in values)


def test_training_learns_from_the_training_split_and_measures_on_rows_all_over_the_other(
    model: Model, larger_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[list[int]]] = []

    def spy(model: Model, batch: Batch, routes: Any, **options: Any) -> Any:
        seen.append(batch.tokens_BT.tolist())
        return Activations(model, batch, routes, **options)

    for module in ("initial", "harvest"):
        monkeypatch.setattr(f"clew.training.{module}.Activations", spy)
    run(model, larger_dataset, tmp_path / "a")
    train_rows = {tuple(row) for row in larger_dataset.train[:].tolist()}
    heldout_rows = [tuple(row) for row in larger_dataset.heldout[:].tolist()]
    assert not train_rows & set(heldout_rows)
    learnt = [tuple(row) for batch in seen for row in batch]
    assert len(seen) > STEPS
    assert set(learnt) <= train_rows
    assert len(set(learnt)) >= 3 * STEPS, "rows are not shown twice before all were shown once"

    seen.clear()
    monkeypatch.undo()
    monkeypatch.setattr("clew.training.heldout.Activations", spy)
    run(model, larger_dataset, tmp_path / "b", evaluate_tokens=40)
    measured = [tuple(row) for batch in seen for row in batch]
    expected = [heldout_rows[0], heldout_rows[1], heldout_rows[3]]  # 40 tokens are three rows of 16, among five
    assert measured == expected * 4, "before the first step, after 5 and 10, and at the end"


def test_the_logged_rate_is_the_schedules_at_the_step_that_it_was_used_for(whole: Whole) -> None:
    logged = {step: values["lr"] for step, values in whole[1].metrics if "lr" in values}
    assert sorted(logged) == [2, 4, 6, 8, 10, 12, STEPS]
    assert logged == {step: rate_at(spec().optimizer, step - 1, STEPS) for step in logged}
    assert len(set(logged.values())) > 2


@pytest.mark.parametrize(("log_every", "evaluate_every"), [(1, 1000), (1000, 1), (1000, 1000)])
def test_a_run_that_diverges_ends_with_the_reason_and_leaves_no_checkpoint_of_it(
    model: Model, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int, evaluate_every: int
) -> None:
    monkeypatch.setattr("clew.training.trainer.rate_at", lambda _spec, step, _steps: 4e-3 if step < 3 else 1e200)
    report = Recorder()
    often: dict[str, Any] = {"log_every": log_every, "evaluate_every": evaluate_every, "checkpoint_every": 1}
    with pytest.raises(InvalidSpec, match=r"training diverged: L0\d/.* is (nan|inf) at step \d+") as diverged:
        run(model, dataset, tmp_path, report, **often)
    assert diverged.value.where == "/spec/optimizer/lr"
    assert len(report.checkpoints) >= 3
    assert all(math.isfinite(value) for _, values in report.metrics for value in values.values())
    for folder in report.checkpoints:
        state = RunState.model_validate_json((folder / "state.json").read_text())
        assert all(math.isfinite(each.fvu_last) for each in state.coders.values())
        for file in state.files:
            assert all(tensor.isfinite().all() for tensor in load_file(folder / file).values()), folder.name
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        folder.name for folder in report.checkpoints
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=3, unique=True).map(sorted))
def test_a_run_that_stopped_ends_with_the_same_bits_and_the_same_metrics(
    model: Model,
    dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
    whole: Whole,
    stops: list[int],
) -> None:
    metrics, resume = [], None
    for stop in stops:
        report = Recorder(stop_after=stop)
        report.done = [] if resume is None else [int(resume.name)]
        with pytest.raises(StopRequested) as stopped:
            run(model, dataset, tmp_path_factory.mktemp("part"), report, resume=resume)
        assert stopped.value.step == stop
        resume = report.checkpoints[-1]
        assert resume.name == f"{stop:08d}"
        metrics += report.metrics
    report = Recorder()
    trained = run(model, dataset, tmp_path_factory.mktemp("rest"), report, resume=resume)
    assert trained == whole[0], "digests are over the bits of the weights"
    assert metrics + report.metrics == whole[1].metrics


def test_a_run_told_to_stop_before_it_has_begun_leaves_nothing(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    class Stop(Recorder):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(StopRequested) as stopped:
        run(model, dataset, tmp_path, Stop())
    assert stopped.value.step is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", [0, 3, 6, 11])
def test_a_run_that_died_in_mid_step_goes_on_from_its_last_checkpoint(
    model: Model,
    dataset: Dataset,
    tmp_path: Path,
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    died = Recorder()

    def die(*arguments: Any) -> Any:
        if len(died.done) == step and arguments[1] == 2:
            raise MemoryError
        return alive(*arguments)

    alive = JointLoss.at
    monkeypatch.setattr(JointLoss, "at", die)
    with pytest.raises(MemoryError):
        run(model, dataset, tmp_path / "died", died)
    monkeypatch.undo()
    assert not (tmp_path / "died" / "coders").exists()
    resume = died.checkpoints[-1] if died.checkpoints else None
    kept = [] if resume is None else [each for each in died.metrics if each[0] <= int(resume.name)]
    report = Recorder()
    assert run(model, dataset, tmp_path / "rest", report, resume=resume) == whole[0]
    assert kept + report.metrics == whole[1].metrics


def test_a_layer_is_the_same_alone_and_among_others_and_the_seed_matters(
    model: Model, dataset: Dataset, tmp_path: Path, whole: Whole
) -> None:
    (alone,) = run(model, dataset, tmp_path / "alone", layers=[2])
    assert alone == whole[0][1]
    torch.manual_seed(99)  # what others do to the global generator is not seen
    (again,) = run(model, dataset, tmp_path / "again", layers=[2])
    assert again == alone
    (other,) = run(model, dataset, tmp_path / "other", layers=[2], seed=1)
    assert other.digest != alone.digest


def test_a_bfloat16_model_trains_float32_coders(larger_dataset: Dataset, tmp_path: Path) -> None:
    model, report = toy_model(dtype=torch.bfloat16), Recorder(steps=100)
    trained = run(model, larger_dataset, tmp_path, report, dtype="bfloat16", layers=[1], steps=100)
    coder = load_coder(tmp_path / "coders" / "L01")
    assert {parameter.dtype for parameter in coder.parameters().values()} == {torch.float32}
    assert trained[0].config.dtype == "float32"
    first, last = trained[0].trained_fvu
    assert last < 0.85 * first


def test_damaged_checkpoints_and_those_of_other_runs_are_refused(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    report = Recorder(stop_after=2)
    with pytest.raises(StopRequested):
        run(model, dataset, tmp_path, report)
    folder = report.checkpoints[-1]
    with pytest.raises(InvalidSpec, match="another run"):
        run(model, dataset, tmp_path, resume=folder, seed=5)
    other = replace(dataset, manifest=dataset.manifest.model_copy(update={"digest": "n" * 64}))
    with pytest.raises(InvalidSpec, match="another run"):
        run(model, other, tmp_path, resume=folder)
    with pytest.raises(InvalidSpec, match="another run"):
        run(model, dataset, tmp_path, resume=folder, model_digest="n" * 64)
    weights = folder / "L02.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1])
    with pytest.raises(DataError, match="L02"):
        run(model, dataset, tmp_path, resume=folder)
    weights.unlink()
    with pytest.raises(DataError, match="L02"):
        run(model, dataset, tmp_path, resume=folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        run(model, dataset, tmp_path, resume=folder)


@pytest.mark.parametrize(
    ("changes", "of_dataset", "where", "said"),
    [
        ({"layers": [0, 3]}, {}, "/spec/layers", "no layer 3"),
        ({"tokens_per_step": 31}, {"context": 32}, "/spec/tokens_per_step", "less than one row"),
        ({}, {"tokenizer_digest": "u" * 64}, "/spec/dataset", "another tokenizer"),
        ({}, {"context": 65}, "/spec/dataset", "65 tokens long"),
    ],
)
def test_what_cannot_be_trained_is_said_first(
    model: Model,
    dataset: Dataset,
    tmp_path: Path,
    changes: dict[str, Any],
    of_dataset: dict[str, Any],
    where: str,
    said: str,
) -> None:
    unfit = replace(dataset, manifest=dataset.manifest.model_copy(update=of_dataset))
    with pytest.raises(InvalidSpec, match=said) as caught:
        run(model, unfit, tmp_path, **changes)
    assert caught.value.where == where
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_a_number_ends_the_run() -> None:
    check_finite(7, {"L00/fvu": 3.0})
    with pytest.raises(InvalidSpec, match="L01/fvu is nan at step 7"):
        check_finite(7, {"L00/fvu": 3.0, "L01/fvu": float("nan")})


def test_the_stream_shows_every_row_once_an_epoch_in_a_new_order(dataset: Dataset) -> None:
    stream = TokenStream(dataset.train, rows_per_step=3, seed=0)
    seen = torch.cat([stream.batch(step).tokens_BT for step in range(20)])
    epochs = seen.reshape(6, 10, 16).tolist()
    everything = sorted(dataset.train[:].tolist())
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 6
    again = TokenStream(dataset.train, rows_per_step=3, seed=0)
    assert torch.equal(again.batch(17).tokens_BT, stream.batch(17).tokens_BT), (
        "a step's rows do not depend on the steps before it"
    )
    assert not torch.equal(
        TokenStream(dataset.train, rows_per_step=3, seed=1).batch(0).tokens_BT, stream.batch(0).tokens_BT
    )

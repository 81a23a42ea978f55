"""How a step is taken, in what parts and when it was read, is not seen in what is learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.clew.coders.test_activations import ACTIVATIONS, make
from tests.clew.toys import toy_model
from tests.clew.training.test_gradients import batch
from tests.clew.training.test_trainer import STEPS, Recorder, run

from clew.data import Batch, Dataset
from clew.models import Model
from clew.reporting import Level, StopRequested
from clew.training import RunState
from clew.training.activations import Activations, route
from clew.training.gradients import JointLoss
from clew_spec import chunks
from clew_spec.coders import CoderSpec, TopK
from clew_spec.losses import AuxK, LossSpec
from clew_spec.training import CoderVariant

pytestmark = pytest.mark.science

PLACES = [route(0, ("mlp.in", "mlp.out")), route(1, ("resid", "resid")), route(2, ("mlp.in", "mlp.out"))]
CROSSING = [
    CoderVariant(name="crossing", kind="cross-layer-transcoder", n_features=24, activation=TopK(k=4)),
    CoderVariant(name="plain", n_features=24, activation=TopK(k=4)),
]


def test_what_is_read_ahead_trains_the_same_bits(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    plain, ahead = Recorder(), Recorder()
    expected = run(model, dataset, tmp_path / "plain", plain, prefetch=False)
    assert run(model, dataset, tmp_path / "ahead", ahead, prefetch=True) == expected
    assert ahead.metrics == plain.metrics


def test_what_is_read_ahead_survives_an_interruption(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    expected = run(model, dataset, tmp_path / "whole", prefetch=False)
    part = Recorder(stop_after=7)
    with pytest.raises(StopRequested):
        run(model, dataset, tmp_path / "part", part, prefetch=True)
    assert run(model, dataset, tmp_path / "rest", resume=part.checkpoints[-1], prefetch=True) == expected


@pytest.mark.parametrize("shrink", [2, 64])
def test_activations_do_not_depend_on_how_many_rows_are_read_at_once(
    model: Model, dataset: Dataset, shrink: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunks.FORWARD_TOKENS, "cpu", 10 * 16)
    whole = list(Activations(model, Batch(dataset.train[:]), PLACES))
    assert [each for each, _, _ in whole] == PLACES
    for (each, x_ND, y_ND), (same, x_again_ND, y_again_ND) in zip(
        whole, Activations(model, Batch(dataset.train[:]), PLACES, shrink=shrink), strict=True
    ):
        assert each == same
        assert x_ND.shape == (10 * 15, 24)
        torch.testing.assert_close(x_again_ND, x_ND, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(y_again_ND, y_ND, rtol=1e-12, atol=1e-12)


class Logged(Recorder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.said: list[tuple[str, Level]] = []

    def log(self, message: str, level: Level = "info") -> None:
        self.said.append((message, level))


def test_where_memory_runs_out_a_step_goes_on_in_smaller_parts_and_that_is_kept(
    model: Model, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"coder": CoderSpec(), "coders": CROSSING, "layers": [0, 1, 2], "prefetch": True}
    expected, plain = run(model, dataset, tmp_path / "plain", whole := Recorder(), **changes), whole.metrics
    asked: list[tuple[int, int]] = []
    calls = 0

    def short(joint: JointLoss, layer: int, x_ND: torch.Tensor, y_ND: torch.Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls > 40 and joint._shrink < 4:
            asked.append((layer, joint._shrink))
            raise torch.OutOfMemoryError("as CUDA says it")
        at(joint, layer, x_ND, y_ND)

    at = JointLoss.at
    monkeypatch.setattr(JointLoss, "at", short)
    report = Logged()
    found = run(model, dataset, tmp_path / "short", report, **changes)
    assert [shrink for _, shrink in asked] == [1, 1, 2], "first it reads no further ahead, then it takes smaller parts"
    assert [level for _, level in report.said] == ["warning"] * 3
    assert report.done == list(range(1, STEPS + 1))
    for (step, values), (same, others) in zip(report.metrics, plain, strict=True):
        assert step == same
        assert values == pytest.approx(others, rel=1e-6)
    state = RunState.model_validate_json((report.checkpoints[-1] / "state.json").read_text())
    assert state.shrink == 4
    for one, other in zip(found, expected, strict=True):
        for file in (each for each in one.files if each.endswith(".safetensors")):
            weights, as_plain = load_file(tmp_path / "short" / file), load_file(tmp_path / "plain" / file)
            for name, weight in weights.items():
                torch.testing.assert_close(weight, as_plain[name], rtol=1e-5, atol=1e-7)
        assert one.fvu_last == pytest.approx(other.fvu_last, rel=1e-6)

    asked.clear()
    again = Logged()
    run(model, dataset, tmp_path / "rest", again, resume=report.checkpoints[-1], **changes)
    assert not asked, "a run that is taken up knows"
    monkeypatch.setattr(JointLoss, "at", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("never enough")))
    with pytest.raises(torch.OutOfMemoryError, match="never enough"):
        run(model, dataset, tmp_path / "never", **changes)


def test_a_first_step_allocates_nothing_that_an_optimiser_keeps(
    model: Model, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is where memory is fullest, and what stops there has moved some weights and not others."""
    expected = run(model, dataset, tmp_path / "plain")

    def full(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    def stepped(optimizer: torch.optim.Adam) -> None:
        with monkeypatch.context() as within:
            within.setattr(torch, "zeros_like", full)
            step(optimizer)

    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", stepped)
    report = Logged()
    assert run(model, dataset, tmp_path / "full", report) == expected
    assert not report.said


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_step_that_has_begun_to_change_weights_is_never_repeated(
    model: Model, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of a cross-layer transcoder some coders would learn twice, and others once."""
    calls = 0

    def short(optimizer: torch.optim.Adam) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise torch.OutOfMemoryError("as CUDA says it")
        step(optimizer)

    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", short)
    report = Logged()
    with pytest.raises(torch.OutOfMemoryError, match="as CUDA says it"):
        run(model, dataset, tmp_path / "run", report, coder=CoderSpec(), coders=CROSSING[:1], layers=[0, 1, 2])
    assert calls == at
    assert not report.said


@pytest.mark.parametrize("shrink", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_do_not_depend_on_how_many_tokens_are_encoded_at_once(
    monkeypatch: pytest.MonkeyPatch, shrink: int, dtype: torch.dtype
) -> None:
    loss = LossSpec(auxk=AuxK(k=3))
    for activation in ACTIVATIONS:
        coder = make("transcoder", activation)
        x_ND, y_ND = batch(coder)
        dead = {coder.layer: torch.arange(24) < 8}
        found = []
        for room, least in ((2**22, 256), (24 * 12, 9)):
            monkeypatch.setitem(chunks.PRE_ACTIVATIONS, "cpu", room)
            monkeypatch.setattr(chunks, "LEAST_TOKENS", least)
            joint = JointLoss(
                {coder.layer: coder}, loss, dead=dead, low_precision=dtype == torch.bfloat16, shrink=shrink
            )
            joint.at(coder.layer, x_ND, y_ND)
            found.append(joint.steps()[coder.layer])
        whole, parts = found
        assert float(whole.l0) == float(parts.l0) > 0
        for name, gradient in whole.gradients.items():
            torch.testing.assert_close(parts.gradients[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_a_bfloat16_step_is_near_a_float32_step() -> None:
    coder = make("transcoder", TopK(k=4))
    x_ND, y_ND = batch(coder)
    low, high = (
        JointLoss(
            {coder.layer: coder},
            LossSpec(),
            low_precision=low,
        )
        for low in (True, False)
    )
    for joint in (low, high):
        joint.at(coder.layer, x_ND, y_ND)
    low_step, high_step = low.steps()[coder.layer], high.steps()[coder.layer]
    assert float(low_step.fvu) == pytest.approx(float(high_step.fvu), rel=0.05)
    for name, gradient in high_step.gradients.items():
        assert torch.cosine_similarity(low_step.gradients[name].flatten(), gradient.flatten(), dim=0) > 0.9, name


def test_a_bfloat16_model_reads_ahead_too(larger_dataset: Dataset, tmp_path: Path) -> None:
    model = toy_model(dtype=torch.bfloat16)
    changes: dict[str, Any] = {"dtype": "bfloat16", "layers": [1]}
    plain = run(model, larger_dataset, tmp_path / "plain", prefetch=False, **changes)
    assert run(model, larger_dataset, tmp_path / "ahead", prefetch=True, **changes) == plain

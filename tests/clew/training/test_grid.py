"""Whatever is trained, on whatever loss: interrupted, or among others, it is the coder that it would be alone."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.training.test_trainer import Recorder, run

from clew.coders import load_coder
from clew.data import Batch, Dataset
from clew.models import Model
from clew.reporting import StopRequested
from clew.training.activations import Activations, route
from clew_spec.coders import BatchTopK, CoderSpec, JumpReLU, ReLU, TopK
from clew_spec.losses import AuxK, LossSpec
from clew_spec.training import CoderVariant, OptimizerSpec

pytestmark = pytest.mark.science

AUXK = AuxK(k=8, dead_after_tokens=45)
GRID = {
    "relu-l1": {"activation": ReLU(), "loss": LossSpec(fidelity="mse", sparsity="l1", sparsity_weight=1e-3)},
    "relu-norm": {
        "activation": ReLU(),
        "loss": LossSpec(
            fidelity="norm-scaled", sparsity="l1-decoder-norm", sparsity_weight=1e-3, sparsity_warmup_steps=7
        ),
    },
    "topk-aux": {"activation": TopK(k=4), "loss": LossSpec(auxk=AUXK)},
    "batchtopk": {"activation": BatchTopK(k=4), "loss": LossSpec(auxk=AUXK)},
    "jumprelu": {
        "activation": JumpReLU(bandwidth=0.5),
        "loss": LossSpec(sparsity="l0", sparsity_weight=1e-2, sparsity_warmup_steps=9, auxk=AUXK),
    },
}
PLACES: dict[str, dict[str, Any]] = {
    "transcoder": {},
    "skip": {"kind": "skip-transcoder"},
    "sae-in": {"kind": "sae", "hook_in": "mlp.in"},
    "sae-out": {"kind": "sae", "hook_in": "mlp.out"},
    "sae-resid": {"kind": "sae", "hook_in": "resid"},
    "crossing": {"kind": "cross-layer-transcoder"},
}
EVERYTHING = [
    CoderVariant(name=f"{place}.{grid}", n_features=24 + 8 * (i % 3), **PLACES[place], **GRID[grid])  # type: ignore[arg-type]
    for i, (place, grid) in enumerate((place, grid) for place in PLACES for grid in GRID)
]
OPTIMIZERS = {
    "plain": OptimizerSpec(warmup_steps=3),
    "lean": OptimizerSpec(kind="adafactor", weight_decay=0.1, warmup_steps=3),
    "everything": OptimizerSpec(
        kind="adamw",
        weight_decay=0.1,
        schedule="cosine",
        decay_fraction=1.0,
        clip_norm=0.05,
        decoder_rows="unit-norm",
        warmup_steps=3,
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_grid_on_one_stream_survives_an_interruption_with_the_same_bits(
    model: Model, dataset: Dataset, tmp_path: Path, optimizer: OptimizerSpec
) -> None:
    coders = [each for each in EVERYTHING if optimizer.decoder_rows == "free" or each.kind != "cross-layer-transcoder"]
    changes: dict[str, Any] = {"coder": CoderSpec(), "coders": coders, "optimizer": optimizer, "layers": [0, 2]}
    whole = Recorder()
    trained = run(model, dataset, tmp_path / "whole", whole, **changes)
    assert [(each.layer, each.variant) for each in trained] == [(i, v.name) for i in [0, 2] for v in coders]
    of_topk = [each.trained_fvu for each in trained if each.config.activation.kind == "topk"]
    assert all(last < first for first, last in of_topk)
    part = Recorder(stop_after=6)
    with pytest.raises(StopRequested):
        run(model, dataset, tmp_path / "part", part, **changes)
    rest = Recorder()
    rest.done = [6]
    assert run(model, dataset, tmp_path / "rest", rest, resume=part.checkpoints[-1], **changes) == trained
    assert part.metrics + rest.metrics == whole.metrics
    names = {name for _, values in whole.metrics for name in values}
    assert any(value > 0 for _, values in whole.metrics for name, value in values.items() if name.endswith("/auxk"))
    assert {"L02.sae-resid.jumprelu/sparsity", "L02.skip.relu-l1/mse", "L02.transcoder.topk-aux/auxk"} <= names

    for each in trained:
        coder = load_coder(tmp_path / "whole" / "coders" / f"L{each.layer:02d}.{each.variant}")
        assert coder.config.centred == (coder.config.kind == "sae")
        if optimizer.decoder_rows == "unit-norm":  # A3
            torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones_like(coder.b_enc), rtol=1e-12, atol=0)
        if coder.threshold is not None:
            assert (coder.threshold >= 0).all()


@pytest.mark.parametrize("variant", EVERYTHING[::4], ids=lambda variant: variant.name)
def test_one_of_many_is_the_one_alone(model: Model, dataset: Dataset, tmp_path: Path, variant: CoderVariant) -> None:
    """A12."""
    others = [each for each in EVERYTHING if each.name[-3:] in (variant.name[-3:], "aux")]
    changes: dict[str, Any] = {"steps": 6, "layers": [2]}
    among = run(model, dataset, tmp_path / "among", Recorder(steps=6), coder=CoderSpec(), coders=others, **changes)
    alone = CoderSpec.model_validate(variant.model_dump(exclude={"name"}))
    ((digest, config),) = [(each.digest, each.config) for each in among if each.variant == variant.name]
    (single,) = run(model, dataset, tmp_path / "alone", Recorder(steps=6), coder=alone, **changes)
    assert (single.digest, single.config, single.variant) == (digest, config, None)


def test_a_coder_begins_alike_whatever_its_loss_and_lambda_ends_it_sparser(
    model: Model, larger_dataset: Dataset, tmp_path: Path
) -> None:
    """A11: L0 does not rise with lambda."""
    weights = [0.0, 3e-3, 1e-2, 3e-2]
    coders = [
        CoderVariant(
            name=f"l{i}",
            n_features=48,
            activation=ReLU(),
            loss=LossSpec(sparsity="l1-decoder-norm", sparsity_weight=weight / 24**0.5),
        )
        for i, weight in enumerate(weights)
    ]
    report = Recorder(steps=60)
    trained = run(
        model, larger_dataset, tmp_path, report, steps=60, layers=[1], coder=CoderSpec(), coders=coders, log_every=60
    )
    assert len({each.fvu_first for each in trained}) == 1
    l0 = [report.metrics[-1][1][f"L01.l{i}/l0"] for i in range(4)]
    assert all(later < earlier for earlier, later in pairwise(l0)), l0
    assert report.metrics[-1][1]["L01.l0/sparsity"] == 0


def test_thresholds_of_batchtopk_keep_about_k(model: Model, larger_dataset: Dataset, tmp_path: Path) -> None:
    report = Recorder(steps=100)
    coder = CoderSpec(n_features=48, activation=BatchTopK(k=6))
    (trained,) = run(model, larger_dataset, tmp_path, report, steps=100, layers=[1], coder=coder)
    stored = load_coder(tmp_path / "coders" / "L01")
    ((_, x_ND, _y_ND),) = Activations(model, Batch(larger_dataset.heldout[:]), [route(1, ("mlp.in", "mlp.out"))])
    l0 = float((stored.encode(x_ND)[1] > 0).sum()) / len(x_ND)
    assert 4 < l0 < 8
    first, last = trained.trained_fvu
    assert last < 0.85 * first

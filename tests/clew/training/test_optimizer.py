"""The rate goes up, stays and comes down; and a layer's scale is nothing to it."""

import math
from itertools import pairwise
from typing import Literal

import pytest
import torch
from tests.clew.coders.test_activations import make

from clew.training.gradients import loss_and_gradients
from clew.training.initial import first_coder
from clew.training.optimizer import Units, hold, learned, optimizer_of, prepare_gradients, rate_at, set_rate
from clew_spec.coders import CoderConfig, TopK
from clew_spec.losses import Fidelity, LossSpec
from clew_spec.training import OptimizerSpec

pytestmark = pytest.mark.science


def test_up_flat_down() -> None:
    spec = OptimizerSpec(lr=0.5, warmup_steps=4, decay_fraction=0.25)
    rates = [rate_at(spec, step, 20) for step in range(20)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, *[0.5] * 13, 0.4, 0.3, 0.2, 0.1])


def test_neither_warm_up_nor_decay() -> None:
    spec = OptimizerSpec(lr=0.5, warmup_steps=0, decay_fraction=0)
    assert {rate_at(spec, step, 7) for step in range(7)} == {0.5}


def test_the_other_schedules() -> None:
    cosine = OptimizerSpec(lr=0.5, warmup_steps=2, schedule="cosine", decay_fraction=1.0)
    rates = [rate_at(cosine, step, 8) for step in range(8)]
    whole = [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates == pytest.approx([whole[0] / 2, *whole[1:]])
    constant = OptimizerSpec(lr=0.5, warmup_steps=2, schedule="constant", decay_fraction=1.0)
    assert [rate_at(constant, step, 8) for step in range(8)] == [0.25, *[0.5] * 7]


def test_gradients_leave_unit_rows_and_keep_their_bound() -> None:
    """A3; and the bound on the norm is in units, so that it means the same at any scale."""
    coder = make("transcoder", TopK(k=4))
    spec = OptimizerSpec(decoder_rows="unit-norm", clip_norm=0.01)
    hold(coder, spec)
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones_like(coder.b_enc), rtol=1e-14, atol=0)
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(p.shape, generator=generator).double() for name, p in learned(coder).items()}
    units = Units(x=3.0, y=0.2, z=5.0, loss=7.0)
    before = {name: gradient.clone() for name, gradient in gradients.items()}
    prepare_gradients(coder, gradients, units, spec)
    assert ((gradients["W_dec"] * coder.W_dec).sum(1).abs() < 1e-15).all()
    squares = sum(float(gradient.square().sum()) * units.of(name) ** 2 for name, gradient in gradients.items())
    assert squares**0.5 / units.loss == pytest.approx(0.01)
    ratio = gradients["W_enc"] / before["W_enc"]
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    small = {name: 1e-6 * gradient for name, gradient in before.items()}
    prepare_gradients(coder, small, units, OptimizerSpec(clip_norm=0.01))
    assert all(torch.equal(small[name], 1e-6 * before[name]) for name in small), "below the bound nothing happens"


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
def test_decay_takes_its_share_off_weights_and_not_off_biases(kind: Literal["adamw", "adafactor"]) -> None:
    coder, units = make("skip-transcoder", TopK(k=4)), Units(x=3.0, y=0.2)
    before = {name: parameter.clone() for name, parameter in coder.parameters().items()}
    optimizer = optimizer_of(coder, units, OptimizerSpec(kind=kind, weight_decay=0.1))
    for parameter in coder.parameters().values():
        parameter.grad = torch.zeros_like(parameter)
    set_rate(optimizer, 0.5)
    optimizer.step()
    for name, parameter in coder.parameters().items():
        share = 1.0 if name.startswith("b_") else 1 - 0.5 * 0.1
        torch.testing.assert_close(parameter, share * before[name], rtol=1e-14, atol=0)


def losses(x_ND: torch.Tensor, y_ND: torch.Tensor, loss: LossSpec, spec: OptimizerSpec) -> list[float]:
    config = CoderConfig(
        activation=TopK(k=4),
        n_features=64,
        d_in=12,
        d_out=9,
        layer=0,
        loss=loss,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    coder, units = first_coder(
        config,
        x_ND,
        y_ND,
        slice(-20, None),
        torch.Generator().manual_seed(0),
        unit_norm=spec.decoder_rows == "unit-norm",
    )
    optimizer = optimizer_of(coder, units, spec)
    found = []
    for step in range(30):
        result = loss_and_gradients(coder, x_ND, y_ND, loss)
        prepare_gradients(coder, result.gradients, units, spec)
        for name, parameter in coder.parameters().items():
            parameter.grad = result.gradients[name]
        set_rate(optimizer, rate_at(spec, step, 30))
        optimizer.step()
        hold(coder, spec)
        found.append(float(result.fvu))
    return found


@pytest.mark.parametrize("n_tokens", [50, 200])  # fewer than the features, and more
@pytest.mark.parametrize("fidelity", ["fvu", "mse", "norm-scaled"])
@pytest.mark.parametrize("spec", [OptimizerSpec(), OptimizerSpec(decoder_rows="unit-norm", clip_norm=0.1)])
def test_the_scale_of_a_layer_changes_nothing(n_tokens: int, fidelity: Fidelity, spec: OptimizerSpec) -> None:
    loss = LossSpec(fidelity=fidelity)
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(n_tokens, 12, dtype=torch.float64, generator=generator) + 0.5
    y_ND = (x_ND @ torch.randn(12, 9, dtype=torch.float64, generator=generator)).relu()
    expected = losses(x_ND, y_ND, loss, spec)
    assert expected[0] < 1, "the first reconstruction is better than the mean"
    assert all(later < earlier for earlier, later in pairwise(expected[::10]))
    for scale_x, scale_y in ((1e-3, 1.0), (1.0, 1e4), (50.0, 1e-4)):
        assert losses(scale_x * x_ND, scale_y * y_ND, loss, spec) == pytest.approx(expected, rel=1e-6)


def test_the_scale_of_a_layer_is_nothing_to_adafactor_in_single_precision() -> None:
    """Its floor under squared gradients is absolute, and in single precision high enough to be met."""
    spec = OptimizerSpec(kind="adafactor")
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(200, 12, generator=generator) + 0.5
    y_ND = (x_ND @ torch.randn(12, 9, generator=generator)).relu()
    for fidelity in ("fvu", "mse"):
        loss = LossSpec(fidelity=fidelity)
        expected = losses(x_ND, y_ND, loss, spec)
        assert expected[-1] < expected[0]
        # Powers of 2 round nothing; the rest would choose other features where two are nearly as large.
        for scale_x, scale_y in ((2.0**-10, 1.0), (1.0, 2.0**13), (64.0, 2.0**-13)):
            assert losses(scale_x * x_ND, scale_y * y_ND, loss, spec) == pytest.approx(expected, rel=1e-3)

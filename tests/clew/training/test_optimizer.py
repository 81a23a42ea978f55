"""The rate goes up, stays and comes down; and a layer's scale is nothing to it."""

from itertools import pairwise

import pytest
import torch

from clew.training.gradients import loss_and_gradients
from clew.training.initial import first_coder
from clew.training.optimizer import adam, rate_at, set_rate
from clew_spec.coders import CoderConfig, TopK
from clew_spec.training import OptimizerSpec

pytestmark = pytest.mark.science


def test_up_flat_down() -> None:
    spec = OptimizerSpec(lr=0.5, warmup_steps=4, decay_fraction=0.25)
    rates = [rate_at(spec, step, 20) for step in range(20)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, *[0.5] * 13, 0.4, 0.3, 0.2, 0.1])


def test_neither_warm_up_nor_decay() -> None:
    spec = OptimizerSpec(lr=0.5, warmup_steps=0, decay_fraction=0)
    assert {rate_at(spec, step, 7) for step in range(7)} == {0.5}


def losses(x_ND: torch.Tensor, y_ND: torch.Tensor) -> list[float]:
    spec = OptimizerSpec()
    config = CoderConfig(
        activation=TopK(k=4),
        n_features=64,
        d_in=12,
        d_out=9,
        layer=0,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    coder, units = first_coder(config, x_ND, y_ND, slice(-20, None), torch.Generator().manual_seed(0))
    optimizer = adam({"L00": coder}, {"L00": units}, spec)
    found = []
    for step in range(30):
        result = loss_and_gradients(coder, x_ND, y_ND)
        for name, parameter in coder.parameters().items():
            parameter.grad = result.gradients[name]
        set_rate(optimizer, rate_at(spec, step, 30))
        optimizer.step()
        found.append(float(result.fvu))
    return found


@pytest.mark.parametrize("n_tokens", [50, 200])  # fewer than the features, and more
def test_the_scale_of_a_layer_changes_nothing(n_tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(n_tokens, 12, dtype=torch.float64, generator=generator) + 0.5
    y_ND = (x_ND @ torch.randn(12, 9, dtype=torch.float64, generator=generator)).relu()
    expected = losses(x_ND, y_ND)
    assert expected[0] < 1, "the first reconstruction is better than the mean"
    assert all(later < earlier for earlier, later in pairwise(expected[::10]))
    for scale_x, scale_y in ((1e-3, 1.0), (1.0, 1e4), (50.0, 1e-4)):
        assert losses(scale_x * x_ND, scale_y * y_ND) == pytest.approx(expected, rel=1e-6)

"""The learning rate goes up, stays and comes down, counted in optimiser steps."""

import pytest

from clew.training.schedule import rate_factor
from clew_spec.training import OptimizerSpec

pytestmark = pytest.mark.science


def test_up_flat_down() -> None:
    optimizer = OptimizerSpec(warmup_steps=4, decay_fraction=0.25)
    factors = [rate_factor(optimizer, step, 20) for step in range(20)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 13, 0.8, 0.6, 0.4, 0.2])


def test_neither_warm_up_nor_decay() -> None:
    optimizer = OptimizerSpec(warmup_steps=0, decay_fraction=0)
    assert {rate_factor(optimizer, step, 7) for step in range(7)} == {1.0}

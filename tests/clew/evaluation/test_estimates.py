"""Intervals are those of the textbooks, and hold the truth as often as they say."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clew.evaluation.estimates import loss_recovered, ratio, student_t

pytestmark = pytest.mark.science

POSITIVE = st.lists(st.floats(0.01, 100), min_size=2, max_size=30)


def test_students_t_is_the_tables() -> None:
    table = {1: 12.7062, 2: 4.30265, 3: 3.18245, 5: 2.57058, 10: 2.22814, 15: 2.13145, 30: 2.04227, 100: 1.98397}
    assert {freedom: student_t(freedom) for freedom in table} == pytest.approx(table, rel=2e-3)


@given(sums=POSITIVE, terms=st.integers(1, 50))
def test_a_mean_has_the_t_interval(sums: list[float], terms: int) -> None:
    sums_N = torch.tensor(sums, dtype=torch.float64)
    found = ratio(sums_N, torch.full_like(sums_N, terms))
    per_term = np.array(sums) / terms
    margin = student_t(len(sums) - 1) * per_term.std(ddof=1) / len(sums) ** 0.5
    assert found.value == pytest.approx(per_term.mean(), rel=1e-12)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(per_term.mean() - margin, rel=1e-9, abs=1e-9)
    assert found.interval.high == pytest.approx(per_term.mean() + margin, rel=1e-9, abs=1e-9)


@given(pairs=st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=2, max_size=20))
def test_a_ratio_has_the_interval_of_its_gradient(pairs: list[tuple[float, float]]) -> None:
    """The delta method as it is defined: the gradient of A / B at the means, and their covariance matrix."""
    above, below = np.array(pairs).T
    a, b, n = above.mean(), below.mean(), len(pairs)
    gradient = np.array([1 / b, -a / b**2])
    error = np.sqrt(max(gradient @ np.cov(above, below) @ gradient, 0) / n)
    found = ratio(torch.from_numpy(above.copy()), torch.from_numpy(below.copy()))
    assert found.value == pytest.approx(a / b, rel=1e-12)
    assert found.interval is not None
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(
        student_t(n - 1) * error, rel=1e-6, abs=1e-6 * a / b
    )


def test_intervals_hold_the_truth_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(0)

    def holds() -> bool:
        size = generator.uniform(5, 15, size=16)
        found = ratio(torch.from_numpy(size * generator.normal(0.3, 0.1, size=16)), torch.from_numpy(size))
        assert found.interval is not None
        return found.interval.low <= 0.3 <= found.interval.high

    # 1,000 draws: the share's standard error is 0.7 %
    assert sum(holds() for _ in range(1000)) / 1000 == pytest.approx(0.95, abs=0.025)


def test_the_loss_recovered_of_the_papers_notebook() -> None:
    """E4: cross-entropies 3.5928 of GPT-2, 4.2337 with transcoders, 10.9406 with zeros."""
    original, spliced, zero = (torch.tensor([ce], dtype=torch.float64) for ce in (3.5928, 4.2337, 10.9406))
    found = loss_recovered(original, spliced, zero)
    assert found.value == pytest.approx(0.9128, abs=5e-5)
    assert found.interval is None, "one row has none"


@pytest.mark.parametrize(("spliced", "value"), [("original", 1), ("ablated", 0)])
def test_a_perfect_splice_recovers_all_and_the_ablation_nothing_for_certain(spliced: str, value: float) -> None:
    sums: dict[str, Tensor] = {"original": torch.tensor([1.0, 2, 4]), "ablated": torch.tensor([3.0, 7, 5])}
    found: Any = loss_recovered(sums["original"], sums[spliced], sums["ablated"])
    assert (found.value, found.interval.low, found.interval.high) == (value, value, value)
    assert loss_recovered(sums["original"], sums[spliced], sums["original"]).value is None

"""Ratios of sums over rows, each with its confidence interval."""

import math
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from clew_spec.evaluation import Interval


class Estimate(NamedTuple):
    value: float | None
    """None where it is divided by 0."""
    interval: Interval | None
    """None for one row."""


def by_row(of_tokens_N: Tensor, counted_BT: Tensor) -> Tensor:
    """Float64 [B]: sums over each row, of one number for each counted token of a batch, in their order."""
    of_rows = torch.split(of_tokens_N.double(), counted_BT.sum(1).tolist())
    return torch.stack([of_row.sum() for of_row in of_rows])


class RowSums:
    """Sums of several quantities, one number a row, in the order of the rows, on the CPU in float64."""

    def __init__(self) -> None:
        self._parts: defaultdict[str, list[Tensor]] = defaultdict(list)

    def add(self, **parts_B: Tensor) -> None:
        for name, part_B in parts_B.items():
            self._parts[name].append(part_B.double().cpu())

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> Tensor:
        """[rows]"""
        return torch.cat(self._parts[name])


def ratio(above_N: Tensor, below_N: Tensor) -> Estimate:
    """`sum above / sum below` over N rows that were sampled independently, with its 95 % interval.

    The variance is that of the ratio's linear part (the delta method): with R the ratio and d = above - R below, its
    standard error is `sqrt(N / (N - 1) sum d^2) / |sum below|`, and the interval is the ratio plus and minus Student's
    t of N - 1 degrees of freedom times that (Cochran 1977, Sampling Techniques, 6.4). Where `below` is the same in all
    rows it is the t-interval of a mean; a row may have nothing on either side. Nothing is drawn, so the same sums give
    the same interval. It may reach beyond what a metric can be.
    """
    n, below = len(below_N), float(below_N.sum())
    if below == 0:
        return Estimate(None, None)
    value = float(above_N.sum()) / below
    if n < 2:
        return Estimate(value, None)
    spread = float((above_N - value * below_N).square().sum())
    margin = student_t(n - 1) * math.sqrt(n / (n - 1) * spread) / abs(below)
    return Estimate(value, Interval(low=value - margin, high=value + margin))


def loss_recovered(original_N: Tensor, spliced_N: Tensor, ablated_N: Tensor) -> Estimate:
    """`(ablated - spliced) / (ablated - original)` of cross-entropies: 1 for a perfect splice, 0 for the ablation."""
    return ratio(ablated_N - spliced_N, ablated_N - original_N)


def student_t(freedom: int) -> float:
    """The 97.5 % point of Student's t, within 0.2 %.

    Closed forms for 1 and 2 degrees of freedom, else the expansion around the normal's (Abramowitz & Stegun 26.7.5).
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z = 1.959963984540054
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**i for i, term in enumerate(terms))

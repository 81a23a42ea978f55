"""Every feature is counted once, in the bin of its frequency."""

import math
from bisect import bisect_right

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clew.evaluation.frequencies import BINS, LOW, WIDTH, firing

pytestmark = pytest.mark.science

TOKENS = 10_000_000


def test_edges_belong_to_the_bin_above_and_the_ends_to_the_outer_bins() -> None:
    active_F = torch.tensor([0, 0, 1, 9, 10, 999, 1000, 1001, TOKENS // 10, TOKENS // 10 + 1, TOKENS])
    found = firing(active_F, TOKENS)
    counts = [0] * BINS
    counts[0], counts[-1] = 3, 1  # 1e-7, 9e-7, and 1e-6 at the first edge; what is always active
    counts[7], counts[8] = 1, 2  # below 1e-4, and from there on
    counts[20] = 2  # from 1e-1 on
    assert found["frequencies"].counts == counts
    assert (found["frequencies"].never, found["dead"], found["dead_fraction"]) == (2, 2, 2 / 11)
    assert (found["dense"], found["live"]) == (2, 4), "a tenth is not more than a tenth, 1e-4 not more than 1e-4"


@given(active=st.lists(st.integers(0, 5000), min_size=1, max_size=60), tokens=st.integers(5000, 10**8))
def test_counts_sum_to_the_features(active: list[int], tokens: int) -> None:
    """E6."""
    found = firing(torch.tensor(active), tokens)
    edges = [LOW + i * WIDTH for i in range(1, BINS)]
    expected = [0] * BINS
    for count in active:
        if count:
            expected[bisect_right(edges, math.log10(count / tokens))] += 1
    assert found["frequencies"].counts == expected
    assert found["frequencies"].never + sum(found["frequencies"].counts) == len(active)

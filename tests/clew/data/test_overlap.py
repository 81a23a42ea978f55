"""What a split holds is known exactly, at 8 bytes a passage."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.data.overlap import Passages, _Hashes

pytestmark = pytest.mark.science

numbers = st.integers(0, 30) | st.integers(0, 2**64 - 1)


@given(added=st.lists(st.lists(numbers, max_size=20), max_size=12), asked=st.lists(numbers, max_size=20))
def test_a_set_of_hashes_holds_what_was_added_and_nothing_else(added: list[list[int]], asked: list[int]) -> None:
    hashes, known = _Hashes(), set[int]()
    for some in added:
        hashes.add(np.asarray(some, dtype=np.uint64))
        known.update(some)
        every = [*asked, *some]
        assert hashes.holds(np.asarray(every, dtype=np.uint64)).tolist() == [number in known for number in every]
        lengths = [len(block) for block in hashes._blocks]
        assert sum(lengths) <= 2 * len(known)
        assert all(longer > 2 * shorter for longer, shorter in itertools.pairwise(lengths))


def test_a_token_costs_what_is_said() -> None:
    passages = Passages()
    generator = np.random.default_rng(0)
    tokens = 0
    tracemalloc.start()
    try:
        for _ in range(500):
            ids_T = generator.integers(50_000, size=2000)
            passages.add("train", ids_T)
            tokens += len(ids_T)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 8.5 * tokens
    assert peak < 17 * tokens

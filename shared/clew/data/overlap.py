"""Splits that share no passage: what one split holds is cut, paragraph by paragraph, from what comes to the other."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from clew.data.dataset import Split

WINDOW = 16
"""Tokens in a row that make a passage."""


class Passages:
    """What both splits hold so far, as 64-bit hashes: a collision cuts a paragraph too many, never one too few.

    A token costs 8 bytes (it begins one passage), and up to 8 more while the largest blocks merge: a thousand million
    tokens need 8 to 16 GB. Passages met before cost nothing once they have merged.
    """

    def __init__(self) -> None:
        self._hashes: dict[Split, _Hashes] = {"train": _Hashes(), "heldout": _Hashes()}

    def foreign(self, split: Split, ids_T: NDArray[np.int64], units_T: NDArray[np.int64]) -> set[int]:
        """The units that a passage of the other split touches; `units_T` says which unit each token belongs to."""
        others = self._hashes["heldout" if split == "train" else "train"]
        starts = np.flatnonzero(others.holds(_passages(ids_T)))
        return {int(unit) for start in starts for unit in np.unique(units_T[start : start + WINDOW])}

    def add(self, split: Split, ids_T: NDArray[np.int64]) -> None:
        self._hashes[split].add(_passages(ids_T))


class _Hashes:
    """A growing set of 64-bit numbers, as sorted blocks, each more than twice as long as the next."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint64]] = []

    def holds(self, hashes_N: NDArray[np.uint64]) -> NDArray[np.bool_]:
        order_N = np.argsort(hashes_N)
        sorted_N = hashes_N[order_N]  # in order, so that a search goes on near the last one
        found_N = np.zeros(len(hashes_N), dtype=np.bool_)
        for block in self._blocks:
            places_N = np.minimum(np.searchsorted(block, sorted_N), len(block) - 1)
            found_N |= block[places_N] == sorted_N
        held_N = np.empty_like(found_N)
        held_N[order_N] = found_N
        return held_N

    def add(self, hashes_N: NDArray[np.uint64]) -> None:
        block = np.unique(hashes_N)
        while self._blocks and len(self._blocks[-1]) <= 2 * len(block):
            block = _merged(self._blocks.pop(), block)
        if len(block):
            self._blocks.append(block)


def _merged(a_N: NDArray[np.uint64], b_M: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Two sorted arrays as one, without repeats."""
    both = np.concatenate([a_N, b_M])
    del a_N, b_M
    both.sort()
    first = np.ones(len(both), dtype=np.bool_)
    np.not_equal(both[1:], both[:-1], out=first[1:])
    return both if first.all() else both[first]


def cut(
    passages: Passages, split: Split, ids: Sequence[int], units: Sequence[int], headings: Sequence[int]
) -> NDArray[np.int64]:
    """What is left of a document for `split`: token ids [T'], none of its passages in the other split.

    Unit u is a paragraph under the heading `headings[u]`, which is a unit too: its own heading. A heading under which
    nothing is left goes as well. What remains moves together, which makes new passages: they are looked at again.
    """
    ids_T, units_T = np.asarray(ids, dtype=np.int64), np.asarray(units, dtype=np.int64)
    while gone := passages.foreign(split, ids_T, units_T):
        left = set(units_T.tolist()) - gone
        alive = {headings[unit] for unit in left if headings[unit] != unit}
        kept = [unit for unit in left if headings[unit] in alive]
        mask_T = np.isin(units_T, kept)
        ids_T, units_T = ids_T[mask_T], units_T[mask_T]
    return ids_T


def _passages(ids_T: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of the passage that begins at each token, for as many as there are."""
    n = max(0, len(ids_T) - WINDOW + 1)
    scattered_T = _scattered(ids_T)
    hashes_N = np.zeros(n, dtype=np.uint64)
    for offset, factor in enumerate(_factors(WINDOW)):
        hashes_N += scattered_T[offset : offset + n] * factor  # modulo 2^64, as unsigned integers do
    return hashes_N


@cache
def _factors(n: int) -> tuple[np.uint64, ...]:
    generator = np.random.default_rng(0)
    return tuple(generator.integers(2**63, size=n, dtype=np.uint64) * np.uint64(2) + np.uint64(1))


def _scattered(ids_N: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: small numbers to numbers all over 64 bits."""
    x = ids_N.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

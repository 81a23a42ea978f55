"""Splits that share no passage: what one split holds is cut, paragraph by paragraph, from what comes to the other."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from clew.data.dataset import Split

WINDOW = 16
"""Tokens in a row that make a passage."""


class Passages:
    """What both splits hold so far, as 64-bit hashes: a collision cuts a paragraph too many, never one too few."""

    def __init__(self) -> None:
        self._hashes: dict[Split, set[int]] = {"train": set(), "heldout": set()}

    def foreign(self, split: Split, ids_T: NDArray[np.int64], units_T: NDArray[np.int64]) -> set[int]:
        """The units that a passage of the other split touches; `units_T` says which unit each token belongs to."""
        others = self._hashes["heldout" if split == "train" else "train"]
        starts = [start for start, passage in enumerate(_passages(ids_T)) if passage in others]
        return {int(unit) for start in starts for unit in np.unique(units_T[start : start + WINDOW])}

    def add(self, split: Split, ids_T: NDArray[np.int64]) -> None:
        self._hashes[split].update(_passages(ids_T))


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


def _passages(ids_T: NDArray[np.int64]) -> list[int]:
    """A hash of the passage that begins at each token, for as many as there are."""
    n = len(ids_T) - WINDOW + 1
    if n <= 0:
        return []
    hashes_N = np.zeros(n, dtype=np.uint64)
    for offset, factor in enumerate(_factors(WINDOW)):
        hashes_N += _scattered(ids_T[offset : offset + n]) * factor  # modulo 2^64, as unsigned integers do
    found: list[int] = hashes_N.tolist()
    return found


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

"""Which rows a step sees: a function of the seed and the step alone, so that a run can be taken up anywhere."""

import hashlib

import torch

from clew.data import Batch, Rows


def seeded(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each purpose, so that adding one changes no other."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class TokenStream:
    """The rows of a split, in a new order each epoch, without end."""

    def __init__(self, rows: Rows, *, rows_per_step: int, seed: int) -> None:
        self.rows, self.rows_per_step, self.seed = rows, rows_per_step, seed
        self._order: tuple[int, list[int]] | None = None

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, row within its order) at which a step begins; steps count from 0."""
        return divmod(step * self.rows_per_step, len(self.rows))

    def row_numbers(self, step: int) -> list[int]:
        """Which rows of the split a step sees. Where an epoch ends, the next one goes on within the batch."""
        start = step * self.rows_per_step
        places = (divmod(start + i, len(self.rows)) for i in range(self.rows_per_step))
        return [self._order_of(epoch)[place] for epoch, place in places]

    def batch(self, step: int) -> Batch:
        """The rows of a step, as the model is to read them."""
        batch = self.rows.batch(self.row_numbers(step))
        return batch.pin_memory() if torch.cuda.is_available() else batch

    def _order_of(self, epoch: int) -> list[int]:
        order = self._order  # once: another thread may be at the next epoch already
        if order is None or order[0] != epoch:
            shuffled = torch.randperm(len(self.rows), generator=seeded(self.seed, f"order/{epoch}"))
            self._order = order = epoch, shuffled.tolist()
        return order[1]

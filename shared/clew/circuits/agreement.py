"""How well predictions agree with measurements."""

import torch
from torch import Tensor

from clew_spec.steering import Agreement

NEGLIGIBLE = 1e-6
"""Of the largest predicted movement: what is smaller is as likely rounding as movement."""


def agreement(predicted: Tensor, measured: Tensor) -> Agreement:
    """Over what is predicted to move by more than `NEGLIGIBLE`; both float[N]."""
    largest = predicted.abs().max() if len(predicted) else 0
    moved = predicted.abs() > NEGLIGIBLE * largest
    predicted, measured = predicted[moved].double(), measured[moved].double()
    return Agreement(
        targets=len(predicted),
        pearson=pearson(predicted, measured),
        spearman=spearman(predicted, measured),
        same_sign=float((predicted.sign() == measured.sign()).double().mean()) if len(predicted) else None,
    )


def pearson(x_N: Tensor, y_N: Tensor) -> float | None:
    """None where a correlation says nothing: of fewer than two pairs, or where one side does not vary."""
    if len(x_N) < 2 or x_N.min() == x_N.max() or y_N.min() == y_N.max():
        return None
    found = float(torch.corrcoef(torch.stack([x_N, y_N]))[0, 1])
    return found if -1 <= found <= 1 else None


def spearman(x_N: Tensor, y_N: Tensor) -> float | None:
    """Pearson's, of ranks; equal values share the mean of theirs."""
    return pearson(_ranks(x_N), _ranks(y_N))


def _ranks(x_N: Tensor) -> Tensor:
    _, group_N, counts = torch.unique(x_N, return_inverse=True, return_counts=True)
    mean_ranks: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return mean_ranks[group_N].double()

"""How often features are active."""

from typing import TypedDict

import torch
from torch import Tensor

from clew_spec.evaluation import DENSE, LIVE, FrequencyHistogram

LOW, WIDTH, BINS = -6.0, 0.25, 24


class Firing(TypedDict):
    """Fields of `CoderMetrics`."""

    dead: int
    dead_fraction: float
    dense: int
    live: int
    frequencies: FrequencyHistogram


def firing(active_F: Tensor, tokens: int) -> Firing:
    """From the number of tokens, out of `tokens`, on which each feature was active: int64 [F]."""
    share_F = active_F.double() / tokens
    dead = int((active_F == 0).sum())
    return Firing(
        dead=dead,
        dead_fraction=dead / len(active_F),
        dense=int((share_F > DENSE).sum()),
        live=int((share_F > LIVE).sum()),
        frequencies=histogram(share_F),
    )


def histogram(share_F: Tensor) -> FrequencyHistogram:
    """Of shares float64 [F] between 0 and 1."""
    log10 = share_F[share_F > 0].log10()
    bins = ((log10 - LOW) / WIDTH).floor().long().clamp(0, BINS - 1)
    counts = torch.bincount(bins, minlength=BINS).tolist()
    return FrequencyHistogram(never=len(share_F) - len(log10), counts=counts, low=LOW, width=WIDTH)

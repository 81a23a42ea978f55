"""What is measured of a coder while it learns: which features are dead, and where BatchTopK cuts."""

import torch
from torch import Tensor

from clew.coders import Coder
from clew_spec.coders import BatchTopK

MEMORY = 100
"""Steps over which the threshold of BatchTopK is averaged: a plain mean at first, then exponential."""


@torch.no_grad()
def calibrate(coder: Coder, values_NK: Tensor, *, step: int) -> None:
    """Move a BatchTopK threshold towards the least value that a batch kept. `step` counts from 0."""
    if not isinstance(coder.config.activation, BatchTopK) or coder.threshold is None:
        return
    kept = values_NK[values_NK > 0]
    if len(kept):
        coder.threshold.add_((kept.min() - coder.threshold) / min(step + 1, MEMORY))


@torch.no_grad()
def count_silence(silence_F: Tensor, indices_NK: Tensor, values_NK: Tensor) -> None:
    """int64: tokens since each feature spoke, after one more batch."""
    silence_F += len(indices_NK)
    silence_F[indices_NK[values_NK > 0]] = 0

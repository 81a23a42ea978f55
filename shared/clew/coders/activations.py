"""Which features speak, and how loudly. Each kind of activation in `clew_spec.coders` has its function here."""

import torch
from torch import Tensor

from clew_spec.coders import TopK


def activate(activation: TopK, pre_NF: Tensor) -> tuple[Tensor, Tensor]:
    """The active features of each token as (indices_NK int64, values_NK), largest first.

    A value of 0 is padding: that feature is not active, whatever its index.
    """
    return _topk(pre_NF, activation.k)


def _topk(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest, then ReLU. Of equals at the threshold the lower index wins, on every device."""
    n_features = pre_NF.shape[-1]
    # One more than k shows whether the threshold is tied, at next to no cost.
    values_NK, indices_NK = pre_NF.topk(min(k + 1, n_features), dim=-1)
    if k < n_features:
        tied_N = (values_NK[:, k - 1] == values_NK[:, k]) & (values_NK[:, k] > 0)
        values_NK, indices_NK = values_NK[:, :k].contiguous(), indices_NK[:, :k].contiguous()
        if tied_N.any():
            values, indices = torch.sort(pre_NF[tied_N], dim=-1, descending=True, stable=True)
            values_NK[tied_N], indices_NK[tied_N] = values[:, :k], indices[:, :k]
    return indices_NK, values_NK.relu()

"""Which features speak, and how loudly. Each kind of activation in `clew_spec.coders` has its case here."""

import torch
from torch import Tensor

from clew_spec.chunks import TIED_AT_ONCE
from clew_spec.coders import Activation, BatchTopK, JumpReLU, ReLU, TopK


def activate(
    activation: Activation, pre_NF: Tensor, threshold: Tensor | None = None, *, learning: bool = False
) -> tuple[Tensor, Tensor]:
    """The active features of each token as (indices_NK int64, values_NK), largest first, each index once.

    A value of 0 is padding: that feature is not active, whatever its index. In use a token's features depend on that
    token alone. `learning` differs for BatchTopK, where the tokens of a batch compete, and for JumpReLU, where padding
    holds every feature within half a bandwidth of its threshold: those that may learn though they are silent. It then
    stands among the others, as large as its pre-activations are.
    """
    match activation:
        case TopK(k=k):
            return _topk(pre_NF, k)
        case ReLU():
            return _pack(pre_NF, pre_NF > 0)
        case BatchTopK(k=k) if learning:
            return _pack(pre_NF, _largest_of_batch(pre_NF, k * len(pre_NF)))
        case BatchTopK():
            assert threshold is not None
            return _pack(pre_NF, pre_NF > threshold)
        case JumpReLU(bandwidth=bandwidth):
            assert threshold is not None
            touched_NF = pre_NF > threshold - bandwidth / 2 if learning else None
            return _pack(pre_NF, pre_NF > threshold, touched_NF)


def _topk(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest, then ReLU. Of equals at the threshold the lower index wins, on every device; in bfloat16, where
    nearly every token has some, any does."""
    n_features = pre_NF.shape[-1]
    # One more than k shows whether the threshold is tied, at next to no cost.
    values_NK, indices_NK = pre_NF.topk(min(k + 1, n_features), dim=-1)
    if pre_NF.dtype == torch.bfloat16:
        values_NK, indices_NK = values_NK[:, :k], indices_NK[:, :k]
    elif k < n_features:
        tied_N = (values_NK[:, k - 1] == values_NK[:, k]) & (values_NK[:, k] > 0)
        values_NK, indices_NK = values_NK[:, :k].contiguous(), indices_NK[:, :k].contiguous()
        # A few rows at a time: sorting takes several times their memory, and all may be tied.
        for tied in torch.split(tied_N.nonzero()[:, 0], TIED_AT_ONCE):
            values, indices = torch.sort(pre_NF[tied], dim=-1, descending=True, stable=True)
            values_NK[tied], indices_NK[tied] = values[:, :k], indices[:, :k]
    return indices_NK, values_NK.relu()


def _largest_of_batch(pre_NF: Tensor, n: int) -> Tensor:
    """Mask [N, F] of the n largest that are positive; of equals the earlier token, then the lower index, wins."""
    flat = pre_NF.flatten()
    if n >= len(flat):
        return pre_NF > 0
    least = flat.topk(n).values[-1:]
    chosen = flat > least
    ties = (flat == least).nonzero()[:, 0]
    chosen[ties[: n - int(chosen.sum())]] = True
    return chosen.view_as(pre_NF) & (pre_NF > 0)


def _pack(pre_NF: Tensor, active_NF: Tensor, slots_NF: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As many slots as the busiest token needs; `slots_NF` are features that get one though they may not be active."""
    slots_NF = active_NF if slots_NF is None else slots_NF
    width = max(1, int(slots_NF.sum(-1).max())) if len(pre_NF) else 1
    indices_NK = pre_NF.masked_fill(~slots_NF, -torch.inf).topk(width, dim=-1).indices
    values_NK = pre_NF.gather(-1, indices_NK)
    return indices_NK, values_NK.masked_fill(~active_NF.gather(-1, indices_NK), 0)

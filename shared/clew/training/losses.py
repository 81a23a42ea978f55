"""The terms of `clew_spec.losses`, each with its gradient."""

import math

import torch
from torch import Tensor

from clew_spec.losses import LossSpec


def fidelity(name: str, y_ND: Tensor, error_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of missing `y_ND` by `error_ND` = y_hat - y, and its gradient by y_hat, [N, D]."""
    match name:
        case "fvu":
            variance = (y_ND - y_ND.mean(0)).square().sum()
            return error_ND.square().sum() / variance, error_ND * (2 / variance)
        case "mse":
            return error_ND.square().sum() / len(y_ND), error_ND * (2 / len(y_ND))
        case "norm-scaled":
            norms_N1: Tensor = y_ND.norm(dim=1, keepdim=True)
            scaled_ND = error_ND / (norms_N1.clamp_min(torch.finfo(y_ND.dtype).tiny) * y_ND.numel())
            return (scaled_ND * error_ND).sum(), 2 * scaled_ND
        case _:
            raise ValueError(f"no fidelity is called {name!r}")


def fidelity_unit(name: str, y: float, d_out: int) -> float:
    """How large a loss is, by the root mean square of an element of y about its mean."""
    return {"fvu": 1.0, "mse": d_out * y * y, "norm-scaled": y / math.sqrt(d_out)}[name]


def sparsity_weight(loss: LossSpec, step: int) -> float:
    """lambda of `step`, from 0: the first step of a warm-up over w takes 1/w of it and the w-th the whole."""
    rising = min(1.0, (step + 1) / loss.sparsity_warmup_steps) if loss.sparsity_warmup_steps else 1.0
    return loss.sparsity_weight * rising

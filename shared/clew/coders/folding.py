"""Affine maps before, within and after a coder, taken into its weights: another coder that is the same function.

Folds compute in float64 and keep the dtype of each weight.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from clew.coders.coder import Coder
from clew.models.anatomy import Norm
from clew_spec.errors import InvalidSpec


def fold_centre(W_enc_FD: Tensor, b_enc_F: Tensor, b_D: Tensor) -> Tensor:
    """[F]: the bias of an encoder that reads x, in place of one that reads x - b."""
    return _like(b_enc_F.double() - linear(b_D.double(), W_enc_FD.double()), b_enc_F)


def fold_gain(coder: Coder, norm: Norm) -> Coder:
    """Of a coder of `n`, one of `n * gain + bias`: of what it reads, and of what it writes where that is `n` too.

    Raises InvalidSpec where a gain is 0.
    """
    gain_D = norm.gain_D.double().cpu()
    if bool((gain_D == 0).any()):
        raise InvalidSpec(f"the norm at layer {coder.layer} has gains of 0, so what the coder reads is lost")
    bias_D = torch.zeros_like(gain_D) if norm.bias_D is None else norm.bias_D.double().cpu()
    old = coder.parameters()
    new = {name: weight.double() for name, weight in old.items()}
    for matrix, bias in (("W_enc", "b_enc"), ("W_skip", "b_dec")):
        if matrix in new:
            new[matrix] = new[matrix] / gain_D
            if not coder.config.centred:  # then b_dec moves, and with it what the encoder reads
                new[bias] = new[bias] - linear(bias_D, new[matrix])
    hooks = {"hook_in": "mlp.in"}
    if coder.config.hook_out == "mlp.normed":
        hooks["hook_out"] = "mlp.in"
        new |= {"W_dec": new["W_dec"] * gain_D, "b_dec": new["b_dec"] * gain_D + bias_D}
    weights = {name: _like(weight, old[name]) for name, weight in new.items()}
    return Coder.of(coder.config.model_copy(update=hooks), weights)


def rescale(coder: Coder, factor_F: Tensor) -> Coder:
    """Each feature in another unit, `z * factor`, for `factor_F` [F] above 0.

    The same function, but for kinds of activation where features compete: they do so in the new units.
    """
    weights = coder.parameters()
    factors = {"W_enc": factor_F[:, None], "b_enc": factor_F, "threshold": factor_F}
    for name, weight in weights.items():
        factor = 1 / factor_F[:, None].double() if name.startswith("W_dec") else factors.get(name)
        if factor is not None:
            weights[name] = _like(weight.double() * factor.double(), weight)
    return Coder.of(coder.config, weights)


def _like(new: Tensor, old: Tensor) -> Tensor:
    return new.to(old.dtype)

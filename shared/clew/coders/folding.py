"""Affine maps before, within and after a coder, taken into its weights: another coder that is the same function.

Folds compute in float64 and keep the dtype of each weight.
"""

from torch import Tensor
from torch.nn.functional import linear

from clew.coders.coder import Coder
from clew.models.anatomy import Norm
from clew_spec.errors import InvalidSpec


def fold_centre(W_enc_FD: Tensor, b_enc_F: Tensor, b_D: Tensor) -> Tensor:
    """[F]: the bias of an encoder that reads x, in place of one that reads x - b."""
    return _like(b_enc_F.double() - linear(b_D.double(), W_enc_FD.double()), b_enc_F)


def fold_gain(coder: Coder, norm: Norm) -> Coder:
    """Of a coder that reads `n`, one that reads `n * gain + bias`. Raises InvalidSpec where a gain is 0."""
    gain_D = norm.gain_D.double().cpu()
    if bool((gain_D == 0).any()):
        raise InvalidSpec(f"the norm at layer {coder.layer} has gains of 0, so what the coder reads is lost")
    weights = coder.parameters()
    for matrix, bias in (("W_enc", "b_enc"), ("W_skip", "b_dec")):
        if matrix in weights:
            folded = weights[matrix].double() / gain_D
            if norm.bias_D is not None:
                shift = linear(norm.bias_D.double().cpu(), folded)
                weights[bias] = _like(weights[bias].double() - shift, weights[bias])
            weights[matrix] = _like(folded, weights[matrix])
    return Coder.of(coder.config.model_copy(update={"hook_in": "mlp.in"}), weights)


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

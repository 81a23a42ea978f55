"""The loss of a coder and its gradients, without ever forming a dense [N, F] gradient.

A token's loss reaches only the k features that spoke, so weight gradients are sums over (token, feature) pairs. Sorted
by feature, each sum is an embedding bag over tokens: about N k D multiplications in place of N F D, in a fixed order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clew.coders import Coder, activate
from clew.training.losses import fidelity
from clew_spec.coders import JumpReLU
from clew_spec.losses import AuxK, LossSpec

DEFAULT = LossSpec()


@dataclass(frozen=True)
class Step:
    terms: dict[str, Tensor]
    """What the loss is the sum of: the fidelity by its name; where asked for, weighted, `sparsity` and `auxk`."""
    fvu: Tensor
    """sum |y - y_hat|^2 / sum |y - y_bar|^2, `y_bar` the mean of this batch. Scalar."""
    l0: Tensor
    """Mean number of active features a token. Scalar."""
    gradients: dict[str, Tensor]
    """Of the loss, by the coder's names of the parameters that learn."""
    indices_NK: Tensor
    values_NK: Tensor
    """What was active, as `activate` says it while learning."""


@torch.no_grad()
def loss_and_gradients(
    coder: Coder,
    x_ND: Tensor,
    y_ND: Tensor,
    loss: LossSpec = DEFAULT,
    weight: float | None = None,
    dead_F: Tensor | None = None,
) -> Step:
    """The loss of `coder` on a batch of what it reads and should write, and its gradients.

    `weight` is lambda where it is not yet the whole of `loss.sparsity_weight`; `dead_F` says which features AuxK is to
    revive. Thresholds of JumpReLU learn through a rectangle kernel (Rajamanoharan et al. 2024, equations 11 and 12).
    """
    weight = loss.sparsity_weight if weight is None else weight
    n_tokens = len(x_ND)
    pre_NF = coder.pre_activations(x_ND)
    indices_NK, values_NK = activate(coder.config.activation, pre_NF, coder.threshold, learning=True)
    with torch.enable_grad():  # only to the values: no weight asks for a gradient here
        values_NK = values_NK.requires_grad_()
        y_hat_ND = coder.decode(indices_NK, values_NK, x_ND)
    error_ND = y_hat_ND.detach() - y_ND
    missed, grad_y_ND = fidelity(loss.fidelity, y_ND, error_ND)
    (grad_values_NK,) = torch.autograd.grad(y_hat_ND, values_NK, grad_y_ND)
    values_NK = values_NK.detach()
    active_NK = values_NK > 0
    pairs = _Pairs(indices_NK, n_features=len(coder.b_enc))
    terms: dict[str, Tensor] = {loss.fidelity: missed}
    read_ND = coder.encoder_input(x_ND)

    grad_W_dec = pairs.sums(values_NK, grad_y_ND)
    match loss.sparsity:
        case "l1":
            terms["sparsity"] = values_NK.sum() * (weight / n_tokens)
            grad_values_NK = grad_values_NK + weight / n_tokens
        case "l1-decoder-norm":
            norms_F = coder.W_dec.norm(dim=1)
            terms["sparsity"] = (values_NK * norms_F[indices_NK]).sum() * (weight / n_tokens)
            grad_values_NK = grad_values_NK + norms_F[indices_NK] * (weight / n_tokens)
            tiny = torch.finfo(norms_F.dtype).tiny
            pull_F1 = pairs.sums(values_NK) * (weight / n_tokens) / norms_F.clamp_min(tiny)[:, None]
            grad_W_dec += pull_F1 * coder.W_dec
        case "l0":
            terms["sparsity"] = active_NK.sum().to(y_ND.dtype) * (weight / n_tokens)

    grad_pre_NK = grad_values_NK * active_NK
    gradients = {
        "W_enc": pairs.sums(grad_pre_NK, read_ND),
        "b_enc": pairs.sums(grad_pre_NK)[:, 0],
        "W_dec": grad_W_dec,
        "b_dec": grad_y_ND.sum(0),
    }
    if coder.W_skip is not None:
        gradients["W_skip"] = grad_y_ND.T @ x_ND
    if isinstance(coder.config.activation, JumpReLU) and coder.threshold is not None:
        width = coder.config.activation.bandwidth
        threshold_NK = coder.threshold[indices_NK]
        near_NK = (pre_NF.gather(1, indices_NK) - threshold_NK).abs() < width / 2
        by_threshold_NK = threshold_NK * grad_values_NK + (weight / n_tokens if loss.sparsity == "l0" else 0)
        gradients["threshold"] = pairs.sums(near_NK * by_threshold_NK / -width)[:, 0]
    if loss.auxk is not None and dead_F is not None and bool(dead_F.any()) and bool(error_ND.any()):
        terms["auxk"], more = _revive(coder, loss, loss.auxk, pre_NF, read_ND, -error_ND, dead_F)
        for name, gradient in more.items():
            gradients[name] += gradient
    if coder.config.centred:
        gradients["b_dec"] -= gradients["b_enc"] @ coder.W_enc
    return Step(
        terms=terms,
        fvu=missed if loss.fidelity == "fvu" else fidelity("fvu", y_ND, error_ND)[0],
        l0=active_NK.sum().double() / n_tokens,
        gradients=gradients,
        indices_NK=indices_NK,
        values_NK=values_NK,
    )


def _revive(
    coder: Coder, loss: LossSpec, auxk: AuxK, pre_NF: Tensor, read_ND: Tensor, residual_ND: Tensor, dead_F: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """AuxK: dead features alone, without `b_dec`, at what the others miss; no gradient reaches the others."""
    dead = dead_F.nonzero()[:, 0]
    values_NK, places_NK = pre_NF[:, dead].topk(min(auxk.k, len(dead)), dim=-1)
    indices_NK, values_NK = dead[places_NK], values_NK.relu()
    with torch.enable_grad():
        values_NK = values_NK.requires_grad_()
        guess_ND = embedding_bag(indices_NK, coder.W_dec, per_sample_weights=values_NK, mode="sum")
    missed, grad_ND = fidelity(loss.fidelity, residual_ND, guess_ND.detach() - residual_ND)
    grad_ND = grad_ND * auxk.weight
    (grad_values_NK,) = torch.autograd.grad(guess_ND, values_NK, grad_ND)
    values_NK = values_NK.detach()
    grad_pre_NK = grad_values_NK * (values_NK > 0)
    pairs = _Pairs(indices_NK, n_features=len(dead_F))
    return missed * auxk.weight, {
        "W_enc": pairs.sums(grad_pre_NK, read_ND),
        "b_enc": pairs.sums(grad_pre_NK)[:, 0],
        "W_dec": pairs.sums(values_NK, grad_ND),
    }


class _Pairs:
    """The (token, feature) pairs of a batch, sorted by feature."""

    def __init__(self, indices_NK: Tensor, n_features: int) -> None:
        features, self.order = indices_NK.flatten().sort(stable=True)
        self.tokens = self.order // indices_NK.shape[1]
        self.offsets_F = torch.searchsorted(features, torch.arange(n_features, device=features.device))

    def sums(self, weights_NK: Tensor, rows_ND: Tensor | None = None) -> Tensor:
        """For each feature the sum of its tokens' rows (or of 1, if none are given), each times its weight: [F, D]."""
        if rows_ND is None:
            rows_ND = weights_NK.new_ones(len(weights_NK), 1)
        weights = weights_NK.flatten()[self.order]
        return embedding_bag(self.tokens, rows_ND, self.offsets_F, per_sample_weights=weights, mode="sum")

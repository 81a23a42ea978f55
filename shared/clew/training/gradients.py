"""The loss of a coder and its gradients, without ever forming a dense [N, F] gradient.

A token's loss reaches only the k features that spoke, so weight gradients are sums over (token, feature) pairs. Sorted
by feature, each sum is an embedding bag over tokens: about N k D multiplications in place of N F D, in a fixed order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clew.coders import Coder


@dataclass(frozen=True)
class Step:
    fvu: Tensor
    """The loss: sum |y - y_hat|^2 / sum |y - y_bar|^2, `y_bar` the mean of this batch. Scalar."""
    l0: Tensor
    """Mean number of active features a token. Scalar."""
    gradients: dict[str, Tensor]
    """Of `fvu`, by the coder's names of its parameters."""


@torch.no_grad()
def loss_and_gradients(coder: Coder, x_ND: Tensor, y_ND: Tensor) -> Step:
    """The loss of `coder` on a batch of MLP inputs and outputs, and its gradients."""
    indices_NK, values_NK = coder.encode(x_ND)
    with torch.enable_grad():  # only to the values: no weight asks for a gradient here
        values_NK = values_NK.requires_grad_()
        y_hat_ND = coder.decode(indices_NK, values_NK)
    error_ND = y_hat_ND.detach() - y_ND
    variance = (y_ND - y_ND.mean(0)).square().sum()
    grad_y_ND = error_ND * (2 / variance)
    (grad_values_NK,) = torch.autograd.grad(y_hat_ND, values_NK, grad_y_ND)
    values_NK = values_NK.detach()
    active_NK = values_NK > 0
    pairs = _Pairs(indices_NK, n_features=len(coder.b_enc))
    grad_pre_NK = grad_values_NK * active_NK
    return Step(
        fvu=error_ND.square().sum() / variance,
        l0=active_NK.sum().double() / len(x_ND),
        gradients={
            "W_enc": pairs.sums(grad_pre_NK, x_ND),
            "b_enc": pairs.sums(grad_pre_NK)[:, 0],
            "W_dec": pairs.sums(values_NK, grad_y_ND),
            "b_dec": grad_y_ND.sum(0),
        },
    )


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

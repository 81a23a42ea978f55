"""The loss of coders and its gradients, without ever forming a dense [N, F] gradient.

A token's loss reaches only the k features that spoke, so weight gradients are sums over (token, feature) pairs. Sorted
by feature, each sum is an embedding bag over tokens: about N k D multiplications in place of N F D, in a fixed order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clew.coders import Coder
from clew.coders.coder import decoder_name, weighted_rows
from clew.training.encoding import Spoken, speak
from clew.training.losses import fidelity
from clew_spec.coders import JumpReLU
from clew_spec.losses import LossSpec

DEFAULT = LossSpec()


@dataclass(frozen=True)
class Step:
    """What one layer's coder is to learn from a batch."""

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


def loss_and_gradients(
    coder: Coder,
    x_ND: Tensor,
    y_ND: Tensor,
    loss: LossSpec = DEFAULT,
    weight: float | None = None,
    dead_F: Tensor | None = None,
) -> Step:
    """The loss of one coder on a batch of what it reads and should write, and its gradients.

    `weight` is lambda where it is not yet the whole of `loss.sparsity_weight`; `dead_F` says which features AuxK is to
    revive.
    """
    dead = {} if dead_F is None else {coder.layer: dead_F}
    joint = JointLoss({coder.layer: coder}, loss, weight=weight, dead=dead)
    joint.at(coder.layer, x_ND, y_ND)
    return joint.steps()[coder.layer]


@dataclass
class _Met:
    """A layer that the batch has passed."""

    coder: Coder
    read_ND: Tensor
    """What the encoder read."""
    spoken: Spoken
    pairs: "_Pairs"
    grad_values_NK: Tensor
    terms: dict[str, Tensor]
    fvu: Tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)


class JointLoss:
    """The loss of coders that write together: one per-layer coder, or all of a cross-layer transcoder.

    `loss` holds for each layer, and theirs are added up. Layers are met from below, each once; when all are met,
    `steps` has the gradients.
    """

    def __init__(
        self,
        coders: Mapping[int, Coder],
        loss: LossSpec,
        *,
        weight: float | None = None,
        dead: Mapping[int, Tensor] | None = None,
        low_precision: bool = False,
        shrink: int = 1,
    ) -> None:
        self.coders = coders
        self.loss = loss
        self.weight = loss.sparsity_weight if weight is None else weight
        self._dead = dead or {}
        self._low_precision, self._shrink = low_precision, shrink
        self._met: dict[int, _Met] = {}

    @property
    def complete(self) -> bool:
        return len(self._met) == len(self.coders)

    @torch.no_grad()
    def at(self, layer: int, x_ND: Tensor, y_ND: Tensor) -> None:
        """A layer's batch: what its coder reads, and what is to be written there."""
        coder = self.coders[layer]
        spoken = speak(
            coder,
            x_ND,
            auxk=self.loss.auxk,
            dead_F=self._dead.get(layer),
            low_precision=self._low_precision,
            shrink=self._shrink,
        )
        written_ND = coder.b_dec if coder.W_skip is None else coder.b_dec + x_ND @ coder.W_skip.T
        below = list(self._met.values())
        leaves = [met.spoken.values_NK.detach().requires_grad_() for met in below]
        own = spoken.values_NK.detach().requires_grad_()
        with torch.enable_grad():  # only to the values: no weight asks for a gradient here
            y_hat_ND = weighted_rows(coder.W_dec, spoken.indices_NK, own)
            for met, values_NK in zip(below, leaves, strict=True):
                y_hat_ND = y_hat_ND + weighted_rows(met.coder.W_later[layer], met.spoken.indices_NK, values_NK)
            y_hat_ND = y_hat_ND + written_ND
        error_ND = y_hat_ND.detach() - y_ND
        missed, grad_y_ND = fidelity(self.loss.fidelity, y_ND, error_ND)
        own_grad_NK, *grads = torch.autograd.grad(y_hat_ND, [own, *leaves], grad_y_ND)

        here = self._met[layer] = _Met(
            coder=coder,
            read_ND=coder.encoder_input(x_ND),
            spoken=spoken,
            pairs=_Pairs(spoken.indices_NK, n_features=len(coder.b_enc)),
            grad_values_NK=own_grad_NK,
            terms={self.loss.fidelity: missed},
            fvu=missed if self.loss.fidelity == "fvu" else fidelity("fvu", y_ND, error_ND)[0],
        )
        here.gradients["W_dec"] = here.pairs.sums(spoken.values_NK, grad_y_ND)
        here.gradients["b_dec"] = grad_y_ND.sum(0)
        if coder.W_skip is not None:
            here.gradients["W_skip"] = grad_y_ND.T @ x_ND
        for met, grad_NK in zip(below, grads, strict=True):
            met.grad_values_NK += grad_NK
            met.gradients[decoder_name(layer)] = met.pairs.sums(met.spoken.values_NK, grad_y_ND)
        if self.loss.auxk is not None:
            here.terms["auxk"] = torch.zeros_like(missed)
            self._revive(here, -error_ND)

    @torch.no_grad()
    def steps(self) -> dict[int, Step]:
        """By layer, when all layers are met, once: what is no longer needed is let go."""
        return {layer: self._step(self._met.pop(layer)) for layer in list(self._met)}

    def _step(self, met: _Met) -> Step:
        coder, loss, spoken = met.coder, self.loss, met.spoken
        values_NK, indices_NK, n_tokens = spoken.values_NK, spoken.indices_NK, len(spoken.values_NK)
        active_NK = values_NK > 0
        grad_values_NK, gradients, terms = met.grad_values_NK, met.gradients, dict(met.terms)
        share = self.weight / n_tokens
        sparsity: Tensor | None = None
        match loss.sparsity:
            case "l1":
                sparsity = values_NK.sum() * share
                grad_values_NK = grad_values_NK + share
            case "l1-decoder-norm":
                decoders = {"W_dec": coder.W_dec} | {decoder_name(k): each for k, each in coder.W_later.items()}
                norms_F = torch.stack([each.square().sum(1) for each in decoders.values()]).sum(0).sqrt()
                sparsity = (values_NK * norms_F[indices_NK]).sum() * share
                grad_values_NK = grad_values_NK + norms_F[indices_NK] * share
                tiny = torch.finfo(norms_F.dtype).tiny
                pull_F1 = met.pairs.sums(values_NK) * share / norms_F.clamp_min(tiny)[:, None]
                for name, W_dec_FD in decoders.items():
                    gradients[name] += pull_F1 * W_dec_FD
            case "l0":
                sparsity = active_NK.sum().to(values_NK.dtype) * share
        if sparsity is not None:
            first, *rest = terms.items()
            terms = dict([first, ("sparsity", sparsity), *rest])

        grad_pre_NK = grad_values_NK * active_NK
        learnt = {"W_enc": met.pairs.sums(grad_pre_NK, met.read_ND), "b_enc": met.pairs.sums(grad_pre_NK)[:, 0]}
        if isinstance(coder.config.activation, JumpReLU) and coder.threshold is not None and spoken.pre_NK is not None:
            # the rectangle kernel of Rajamanoharan et al. 2024, equations 11 and 12
            width = coder.config.activation.bandwidth
            threshold_NK = coder.threshold[indices_NK]
            near_NK = (spoken.pre_NK - threshold_NK).abs() < width / 2
            by_threshold_NK = threshold_NK * grad_values_NK + (share if loss.sparsity == "l0" else 0)
            learnt["threshold"] = met.pairs.sums(near_NK * by_threshold_NK / -width)[:, 0]
        for name, gradient in learnt.items():
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        if coder.config.centred:
            gradients["b_dec"] -= gradients["b_enc"] @ coder.W_enc
        return Step(
            terms=terms,
            fvu=met.fvu,
            l0=active_NK.sum().double() / n_tokens,
            gradients=gradients,
            indices_NK=indices_NK,
            values_NK=values_NK,
        )

    def _revive(self, here: _Met, residual_ND: Tensor) -> None:
        """AuxK: dead features alone, without `b_dec`, at what the others miss; no gradient reaches the others."""
        auxk, indices_NK, values_NK = self.loss.auxk, here.spoken.dead_indices_NK, here.spoken.dead_values_NK
        if auxk is None or indices_NK is None or values_NK is None or not bool(residual_ND.any()):
            return
        with torch.enable_grad():
            leaf = values_NK.detach().requires_grad_()
            guess_ND = weighted_rows(here.coder.W_dec, indices_NK, leaf)
        missed, grad_ND = fidelity(self.loss.fidelity, residual_ND, guess_ND.detach() - residual_ND)
        grad_ND = grad_ND * auxk.weight
        (grad_values_NK,) = torch.autograd.grad(guess_ND, leaf, grad_ND)
        grad_pre_NK = grad_values_NK * (values_NK > 0)
        pairs = _Pairs(indices_NK, n_features=len(here.coder.b_enc))
        here.terms["auxk"] = missed * auxk.weight
        here.gradients["W_enc"] = pairs.sums(grad_pre_NK, here.read_ND)
        here.gradients["b_enc"] = pairs.sums(grad_pre_NK)[:, 0]
        here.gradients["W_dec"] += pairs.sums(values_NK, grad_ND)


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

"""Who writes what the start decade does to the next digit, and who brings the start decade to a feature.

Both are exact sums. With its last norm's scale as it was, what the unembedding reads is the sum of what heads and MLPs
wrote; with the scale of the norm before its MLP, so is what a feature reads. Of everything only what depends on the
start decade counts: its mean over the ten decades of a context is taken off. Shape letters as in `last_position`, and
F features, K of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.connections import reading
from clew.circuits.replacement import Coder
from clew.models import Model
from studies.greater_than.last_position import LastPosition, over_decades
from studies.greater_than.prompts import Prompts, digit_weights


@dataclass(frozen=True)
class Components:
    """A number, or one for each of K features, for each head and each MLP, all at the last position."""

    heads_LH: Tensor
    """[..., L, H]"""
    mlps_L: Tensor
    """[..., L]"""
    embedding: Tensor
    """[...]: the last token, the same in all prompts, through the scale of the norm alone."""

    @property
    def total(self) -> Tensor:
        return self.heads_LH.sum((-2, -1)) + self.mlps_L.sum(-1) + self.embedding


def varying(x_BX: Tensor) -> Tensor:
    """What of x depends on the start decade."""
    return x_BX - over_decades(x_BX)


def decade_effect(prompts: Prompts, logits_BV: Tensor) -> Tensor:
    """float[B]: of the logit difference, what the start decade makes of it: 0 where all decades give the same."""
    return (varying(logits_BV[:, prompts.digits_Y]) * digit_weights().to(logits_BV)[prompts.decades_B]).sum(-1)


def counted_mean(prompts: Prompts, x_BX: Tensor) -> Tensor:
    return x_BX[prompts.counted_B].mean(0)


def unembedders(model: Model, prompts: Prompts) -> Tensor:
    """[B, D]: what the logit difference of each prompt reads of the residual stream, up to the last norm's scale."""
    W_U_YD = model.anatomy.W_U_VD[prompts.digits_Y]
    return model.anatomy.final_norm.fold(digit_weights().to(W_U_YD) @ W_U_YD)[prompts.decades_B]


def direct_effects(last: LastPosition, prompts: Prompts) -> Components:
    """Of what every head and MLP at the last position writes on the mean decade effect: they add up to it."""
    read_BD, scale_B1 = unembedders(last.model, prompts), last.seen.final_scale_B1
    one_B = prompts.counted_B.to(read_BD) / prompts.counted_B.sum()
    return _sums(last, read_BD[:, None], scale_B1, one_B[:, None], len(last.model.anatomy.blocks))


def brought_to(last: LastPosition, coder: Coder, features: Sequence[int]) -> Components:
    """By feature, of what its pre-activation at the last position knows of the start decade, the share that each head
    and each MLP below it wrote: its covariance with all of it, over the variance of all. Shares add up to 1."""
    layer, seen = coder.layer, last.seen
    known_BK = varying(seen.mlp_in_LBD[layer] @ coder.W_enc[list(features)].T)
    read_BKD = reading(last.model, coder, features).expand(len(known_BK), -1, -1)
    return _sums(last, read_BKD, seen.mlp_scale_LB1[layer], known_BK / known_BK.pow(2).sum(0), layer)


def _sums(last: LastPosition, read_BKD: Tensor, scale_B1: Tensor, weight_BK: Tensor, n_mlps: int) -> Components:
    """[K] of every component: sum over prompts of `weight` times what `read` reads of what varies in what it wrote,
    of the MLPs below layer `n_mlps` and of the heads before those and the next."""
    seen, anatomy = last.seen, last.model.anatomy
    n_layers, n_heads = len(anatomy.blocks), seen.heads_LBHE.shape[2]
    heads_KLH = read_BKD.new_zeros(read_BKD.shape[1], n_layers, n_heads)
    mlps_KL = read_BKD.new_zeros(read_BKD.shape[1], n_layers)
    weighed_BKD = weight_BK[..., None] * read_BKD

    def total(written_BD: Tensor) -> Tensor:
        return torch.einsum("bd,bkd->k", varying(written_BD * scale_B1), weighed_BKD)

    for layer, block in enumerate(anatomy.blocks[: n_mlps + 1]):
        for head in range(n_heads):
            written_BD = seen.heads_LBHE[layer, :, head] @ block.attention.W_O_DHE[:, head].T
            heads_KLH[:, layer, head] = total(written_BD)
        if layer < n_mlps:
            mlps_KL[:, layer] = total(seen.mlp_out_LBD[layer])
    return Components(heads_KLH, mlps_KL, total(seen.embed_BD))


def activations(last: LastPosition, coder: Coder) -> Tensor:
    """[B, F]: of all features of a coder at the last position."""
    ids_BS, z_BS = coder.encode(last.seen.mlp_in_LBD[coder.layer])
    return z_BS.new_zeros(len(z_BS), len(coder.W_enc)).scatter_add_(1, ids_BS, z_BS)


def feature_effects(last: LastPosition, prompts: Prompts, coder: Coder, z_BF: Tensor) -> Tensor:
    """[F]: direct effect of each feature on the mean decade effect; with the coder's error they add up to its MLP's."""
    written_BF = varying(z_BF * last.seen.final_scale_B1)
    return counted_mean(prompts, written_BF * (unembedders(last.model, prompts) @ coder.W_dec.T))

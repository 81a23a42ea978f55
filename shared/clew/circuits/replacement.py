"""Every MLP of a prompt rewritten as features, an error and a bias.

Shape letters here and in `frozen` and `sweep`: T position, D residual stream, N targets, H heads, K key-value heads,
E head dimension, S slots (the features that can be active at one layer and position).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from clew.models import Anatomy, Recording
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Position0


class Coder(Protocol):
    """What attribution asks of a coder; see `clew.coders`."""

    @property
    def layer(self) -> int: ...
    @property
    def hooks(self) -> tuple[str, str]: ...
    @property
    def W_enc(self) -> Tensor: ...
    @property
    def W_dec(self) -> Tensor: ...
    @property
    def b_dec(self) -> Tensor: ...
    @property
    def W_skip(self) -> Tensor | None: ...
    @property
    def W_later(self) -> Mapping[int, Tensor]: ...

    def encode(self, x_ND: Tensor) -> tuple[Tensor, Tensor]: ...


def require_feature(coders: Mapping[int, Coder], layer: int, feature: int, where: str | None = None) -> None:
    """Raises InvalidSpec, below the field `where` if one is named, for a feature that does not exist."""
    if layer not in coders:
        raise InvalidSpec(
            f"layer {layer} has no coder",
            where=where and f"{where}/layer",
            expected=f"one of the layers {', '.join(map(str, sorted(coders)))}",
        )
    n_features = len(coders[layer].W_enc)
    if not 0 <= feature < n_features:
        raise InvalidSpec(
            f"the coder of layer {layer} has no feature {feature}",
            where=where and f"{where}/feature",
            expected=f"0 to {n_features - 1}",
        )


def first_coded(position_0: Position0) -> int:
    """The first position that has features."""
    return 0 if position_0 == "features" else 1


def first_skipped(position_0: Position0) -> int:
    """The first position where a skip path carries edges."""
    return 1 if position_0 == "error" else 0


def decoders_into(coders: Mapping[int, Coder], layer: int) -> Iterator[tuple[int, Tensor]]:
    """What features write to one layer by: the layer of each coder, from below, and its decoder [F, D] for this one."""
    for own, coder in sorted(coders.items()):
        if own == layer:
            yield own, coder.W_dec
        elif layer in coder.W_later:
            yield own, coder.W_later[layer]


@dataclass(frozen=True)
class Replacement:
    """One layer: `mlp_out = sum over slots of z W_dec[ids] + from below + b_dec + error`, in one dtype on the model's
    device; from below comes what features of a cross-layer transcoder's lower layers write to this one."""

    ids_TS: Tensor
    """Features, ascending at each position; on the device of the coder."""
    z_TS: Tensor
    """Their activations; 0 where a slot is empty."""
    b_dec_TD: Tensor
    """With what the bias of the norm before the MLP writes through a skip path."""
    error_TD: Tensor
    """All of the MLP's output without a coder, and at position 0 unless coders apply there. What a skip path writes is
    no part of it."""
    attention_bias_TD: Tensor | None
    """What the biases of the attention before this MLP write."""

    @property
    def bias_TD(self) -> Tensor:
        return self.b_dec_TD if self.attention_bias_TD is None else self.b_dec_TD + self.attention_bias_TD


def replace_mlp(
    anatomy: Anatomy,
    seen: Recording,
    layer: int,
    coder: Coder | None,
    dtype: torch.dtype,
    *,
    from_below_TD: Tensor | None = None,
    position_0: Position0 = "error",
) -> Replacement:
    """Activations come from the model's own MLP input, in the dtype of the coder; the rest is in `dtype`."""
    here = seen.layers[layer]
    out_TD = here.mlp_out_TD.to(dtype)
    attention_bias_TD = anatomy.blocks[layer].attention_bias_TD(here.pattern_HTT, here.attn_post_scale_T1)
    if attention_bias_TD is not None:
        attention_bias_TD = attention_bias_TD.to(dtype)
    if coder is None:
        nothing_TS = out_TD.new_zeros(len(out_TD), 0)
        return Replacement(nothing_TS.long(), nothing_TS, torch.zeros_like(out_TD), out_TD, attention_bias_TD)

    coded, skipped = first_coded(position_0), first_skipped(position_0)
    found_TS, z_TS = coder.encode(here.mlp_in_TD.to(coder.W_enc.device, coder.W_enc.dtype))
    ids_TS, z_TS = _packed(found_TS, z_TS.to(out_TD), coded)
    b_dec_TD = coder.b_dec.to(out_TD).repeat(len(out_TD), 1)
    b_dec_TD[:coded] = 0
    skip_TD = torch.zeros_like(out_TD)
    if coder.W_skip is not None:
        skip_TD[skipped:] = here.mlp_in_TD[skipped:].to(out_TD) @ coder.W_skip.to(out_TD).T
        norm_bias_D = anatomy.blocks[layer].mlp_norm.bias_D
        if norm_bias_D is not None:  # passes the skip path whatever the prompt: a bias
            bias_D = coder.W_skip.to(out_TD) @ norm_bias_D.to(out_TD)
            b_dec_TD[skipped:] += bias_D
            skip_TD[skipped:] -= bias_D
    ids_TS = ids_TS.to(coder.W_dec.device)
    error_TD = out_TD - skip_TD - b_dec_TD - written(coder.W_dec, ids_TS, z_TS)
    if from_below_TD is not None:
        error_TD = error_TD - from_below_TD
    return Replacement(ids_TS, z_TS, b_dec_TD, error_TD, attention_bias_TD)


def _packed(ids_TS: Tensor, z_TS: Tensor, coded: int) -> tuple[Tensor, Tensor]:
    """Active features of the coded positions first, by id, in as many slots as the busiest position needs: what an
    attention sink would have would widen all of them."""
    active_TS = z_TS > 0
    active_TS[:coded] = False
    order_TS = torch.where(active_TS, ids_TS, torch.iinfo(ids_TS.dtype).max).argsort(dim=-1, stable=True)
    order_TS = order_TS[:, : int(active_TS.sum(-1).max())]
    return ids_TS.gather(-1, order_TS), torch.where(active_TS, z_TS, 0).gather(-1, order_TS)


def written(W_dec_FD: Tensor, ids_TS: Tensor, z_TS: Tensor) -> Tensor:
    """[T, D]: what all features of a layer write by one of their decoders."""
    return torch.einsum("ts,tsd->td", z_TS, W_dec_FD[ids_TS].to(z_TS))

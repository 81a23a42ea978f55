"""What the weights alone say of who is connected to whom, on no prompt.

Everything here is a *reading vector* f [N, D], what something reads in the residual stream, met by what is written
there. Norm gains, and the mean a LayerNorm subtracts, are folded into f; norm scales and attention patterns depend on
the prompt and are left out. So an edge of an attribution graph from a feature of activation z is

    z * scale_target * (w_dec . f  +  sum over heads of pattern * scale_attention * (w_dec . through_head(f)))

for adjacent layers, and longer routes multiply on. Shape letters: N readers, F written vectors, D residual stream,
V vocabulary, L layers, H heads, E head dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.replacement import Coder
from clew.models import Model
from clew.models.anatomy import Norm
from clew_spec.errors import InvalidSpec

CHUNK = 2**24
"""Products held at a time while the strongest are looked for."""


@dataclass(frozen=True)
class Strongest:
    """The k largest in absolute value for each reader, strongest first, with their signs."""

    values_NK: Tensor
    indices_NK: Tensor


@torch.inference_mode()
def reading(model: Model, coder: Coder, features: Sequence[int] | None = None) -> Tensor:
    """f [N, D] of features of one coder; all of them by default."""
    encoders = coder.W_enc if features is None else coder.W_enc[list(features)]
    return model.anatomy.blocks[coder.layer].mlp_norm.fold(encoders.to(model.device))


@torch.inference_mode()
def logit_reading(model: Model, tokens: Sequence[int], minus: Sequence[int] | None = None) -> Tensor:
    """f [N, D] of logits less their mean over the vocabulary, or less the logits of the tokens `minus`.

    Logits before a cap, if the model has one.
    """
    W_U_VD = model.anatomy.W_U_VD
    other = W_U_VD.mean(0) if minus is None else W_U_VD[list(minus)]
    return model.anatomy.final_norm.fold(W_U_VD[list(tokens)] - other)


@torch.inference_mode()
def vocabulary(model: Model) -> Tensor:
    """[V, D]: what each token writes as its embedding, in the model's own scale."""
    tokens_V = torch.arange(len(model.anatomy.W_E_VD), device=model.device)
    written: Tensor = model.anatomy.embed(tokens_V)
    return written


@torch.inference_mode()
def through_head(model: Model, f_ND: Tensor, layer: int, head: int) -> Tensor:
    """[N, D]: what f reads of what this head writes, as a reading vector where the head reads.

    `W_V^T W_O^T f`; apply it again, from high layers to low, for a chain of heads.
    """
    block = model.anatomy.blocks[layer]
    attention = block.attention
    if block.attn_post_norm is not None:
        f_ND = block.attn_post_norm.fold(f_ND)
    W_V_ED = attention.W_V_KED[head // attention.group].to(f_ND.dtype)
    return block.attn_norm.fold(f_ND @ attention.W_O_DHE[:, head].to(f_ND.dtype) @ W_V_ED)


@torch.inference_mode()
def written_through_head(model: Model, w_ND: Tensor, layer: int, head: int) -> Tensor:
    """[N, D]: what this head writes of what is written below it: the adjoint of `through_head`.

    `W_O W_V w`; apply it again, from low layers to high, for a chain of heads.
    """
    block = model.anatomy.blocks[layer]
    attention = block.attention
    W_V_ED = attention.W_V_KED[head // attention.group].to(w_ND.dtype)
    out_ND = _unscaled(block.attn_norm, w_ND) @ W_V_ED.T @ attention.W_O_DHE[:, head].to(w_ND.dtype).T
    return out_ND if block.attn_post_norm is None else _unscaled(block.attn_post_norm, out_ND)


def pullback(f_ND: Tensor, written_FD: Tensor) -> Tensor:
    """[N, F]: how much of each written vector is read: a coder's `W_dec`, `vocabulary`, or anything else."""
    return f_ND @ written_FD.to(f_ND).T


def strongest(f_ND: Tensor, written_FD: Tensor, k: int) -> Strongest:
    """The strongest of `pullback` for each reader, without holding all of it."""
    k = min(k, len(written_FD))
    values, indices = [], []
    for chunk_ND in torch.split(f_ND, max(1, CHUNK // max(1, len(written_FD)))):
        products = pullback(chunk_ND, written_FD)
        top = products.abs().topk(k, dim=-1).indices
        values.append(products.gather(-1, top))
        indices.append(top)
    return Strongest(torch.cat(values), torch.cat(indices))


def virtual_weights(
    model: Model,
    source: Coder,
    target: Coder,
    *,
    k: int,
    features: Sequence[int] | None = None,
    through: Sequence[tuple[int, int]] = (),
) -> Strongest:
    """For each target feature the `k` source features it reads most: directly, or through a chain of heads.

    `features` are the target's, all by default; `through` is (layer, head) from the source up to the target. What a
    feature of a cross-layer transcoder writes to several layers is read together, as far as it is written below the
    first reader. Raises InvalidSpec where nothing can pass that way: a source that is not below, heads out of order or
    out of range.
    """
    _check_route(model, source.layer, target.layer, through)
    f_ND = reading(model, target, features)
    for layer, head in reversed(through):
        f_ND = through_head(model, f_ND, layer, head)
    return strongest(f_ND, written_below(source, through[0][0] if through else target.layer), k)


@torch.inference_mode()
def readers(model: Model, coder: Coder, w_ND: Tensor, k: int) -> Strongest:
    """The features of one coder that read each written vector most."""
    return strongest(_unscaled(model.anatomy.blocks[coder.layer].mlp_norm, w_ND), coder.W_enc, k)


def written_below(coder: Coder, layer: int, features: Sequence[int] | None = None) -> Tensor:
    """[N, D]: what features, all by default, at activation 1 write in all to layers below one."""
    decoders = [coder.W_dec, *(W_FD for written, W_FD in coder.W_later.items() if written < layer)]
    if features is not None:
        decoders = [W_FD[list(features)] for W_FD in decoders]
    total_ND, *later = decoders
    for W_ND in later:
        total_ND = total_ND + W_ND
    return total_ND


def de_embedding(model: Model, f_ND: Tensor, k: int) -> Strongest:
    """The tokens whose embeddings each reader reads most."""
    return strongest(f_ND, vocabulary(model), k)


@torch.inference_mode()
def direct_logit_effect(model: Model, coder: Coder, features: Sequence[int] | None = None) -> Tensor:
    """[N, V]: what each feature, at activation 1, adds to the logits less their mean, up to the final norm's scale.

    Logits before a cap, if the model has one.
    """
    return logit_effect(model, written_below(coder, model.n_layers, features))


@torch.inference_mode()
def logit_effect(model: Model, w_ND: Tensor) -> Tensor:
    """[N, V]: as `direct_logit_effect`, of anything that is written."""
    return pullback(*_logit_factors(model, w_ND))


@torch.inference_mode()
def promoted_tokens(model: Model, coder: Coder, k: int, features: Sequence[int] | None = None) -> Strongest:
    """The strongest of `direct_logit_effect`: tokens promoted, or with a negative value suppressed."""
    return strongest(*_logit_factors(model, written_below(coder, model.n_layers, features)), k)


@torch.inference_mode()
def ov_norms(model: Model) -> Tensor:
    """[L, H]: Frobenius norm of each head's `W_O W_V`, norm gains folded in. Never holds a [D, D] matrix."""
    rows = []
    for block in model.anatomy.blocks:
        attention = block.attention
        reads_KED = block.attn_norm.fold(attention.W_V_KED)
        writes_HED = attention.W_O_DHE.permute(1, 2, 0)
        if block.attn_post_norm is not None:
            writes_HED = _unscaled(block.attn_post_norm, writes_HED)
        reads_KEE = reads_KED @ reads_KED.mT
        writes_HEE = writes_HED @ writes_HED.mT
        # |W_O W_V|^2 = trace of (W_O^T W_O)(W_V W_V^T)
        squared_H = (writes_HEE * reads_KEE.repeat_interleave(attention.group, 0)).sum((-2, -1))
        rows.append(squared_H.clamp_min(0).sqrt())
    return torch.stack(rows)


def _logit_factors(model: Model, w_ND: Tensor) -> tuple[Tensor, Tensor]:
    W_U_VD = model.anatomy.W_U_VD
    return _unscaled(model.anatomy.final_norm, w_ND.to(model.device)), W_U_VD - W_U_VD.mean(0)


def _unscaled(norm: Norm, w_ND: Tensor) -> Tensor:
    """What passes a norm of what is written before it, up to the scale; without the norm's bias."""
    return norm.linear(w_ND, torch.ones_like(w_ND[..., :1]))


def _check_route(model: Model, source: int, target: int, through: Sequence[tuple[int, int]]) -> None:
    if not 0 <= source < target < model.n_layers:
        raise InvalidSpec(
            f"features of layer {source} are not read at layer {target}",
            expected=f"a source below its target, both among layers 0 to {model.n_layers - 1}",
        )
    # a block's attention comes before its MLP; in a parallel block the MLP does not read it
    highest = target - 1 if model.anatomy.blocks[target].parallel else target
    below = source
    for layer, head in through:
        if not below < layer <= highest:
            raise InvalidSpec(
                f"a head of layer {layer} is not between what it should connect",
                expected=f"heads in ascending layers, from {source + 1} to {highest}",
            )
        if not 0 <= head < model.anatomy.blocks[layer].attention.n_heads:
            raise InvalidSpec(f"layer {layer} has no head {head}")
        below = layer

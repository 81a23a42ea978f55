"""The anatomy proves itself: its own arithmetic must give the model's own numbers."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from clew.models.anatomy import Anatomy
from clew.models.recording import Recording, record
from clew_spec.errors import ModelError
from clew_spec.results import AnatomyProof

PROBE_TOKENS = 24
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference allowed, over the largest value compared. Rounding alone gives a few 1e-6 in float32."""
LOW_PRECISION_TOLERANCE = 0.1
"""For 16-bit dtypes, whose rounding through the layers is of the order of a per cent."""


def probe(vocab_size: int) -> Tensor:
    """The same token ids for every model of one vocabulary size."""
    return torch.randint(vocab_size, (PROBE_TOKENS,), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def prove(hf: PreTrainedModel, anatomy: Anatomy) -> AnatomyProof:
    """Recompute every MLP input and the logits of a probe from embeddings, recorded attention patterns, norm scales
    and MLP outputs, and compare with what the model itself computed.

    Raises ModelError, naming the first thing that differs, where attention is not causal or anything is further off
    than the tolerance: then this anatomy must not be used.
    """
    max_context = getattr(hf.config, "max_position_embeddings", PROBE_TOKENS)
    tokens_T = probe(anatomy.W_E_VD.shape[0])[:max_context]
    seen = record(hf, anatomy, tokens_T)
    dtype = anatomy.W_U_VD.dtype
    tolerance = TOLERANCE.get(dtype, LOW_PRECISION_TOLERANCE)

    def compare(name: str, ours: Tensor, theirs: Tensor) -> tuple[float, float]:
        difference, scale = (ours - theirs).abs().max().item(), theirs.abs().max().item()
        if not difference <= tolerance * scale:
            raise ModelError(
                f"the anatomy does not reproduce this model: {name} are off by {difference:.3g} of {scale:.3g}",
                expected=f"off by at most {tolerance:g} of the largest",
                hint="the model computes something its family's description in clew.models.anatomy does not know",
            )
        return difference, scale

    _check_patterns(seen)
    x_TD = seen.embed_TD if seen.position_TD is None else seen.embed_TD + seen.position_TD
    for i, (block, layer) in enumerate(zip(anatomy.blocks, seen.layers, strict=True)):
        normed_TD = block.attn_norm.apply(x_TD, layer.attn_scale_T1)
        attn_out_TD = block.attention.apply(normed_TD, layer.pattern_HTT)
        if block.attn_post_norm is not None and layer.attn_post_scale_T1 is not None:
            attn_out_TD = block.attn_post_norm.apply(attn_out_TD, layer.attn_post_scale_T1)
        mid_TD = x_TD + attn_out_TD
        read_TD = x_TD if block.parallel else mid_TD
        compare(f"the MLP inputs of layer {i}", block.mlp_norm.apply(read_TD, layer.mlp_scale_T1), layer.mlp_in_TD)
        x_TD = mid_TD + layer.mlp_out_TD
    logits_TV = anatomy.final_norm.apply(x_TD, seen.final_scale_T1) @ anatomy.W_U_VD.T
    if anatomy.b_U_V is not None:
        logits_TV = logits_TV + anatomy.b_U_V
    # a cap flattens differences: what is compared is what it is applied to, and then that it is the model's cap
    difference, scale = compare("the logits", logits_TV, seen.uncapped_TV)
    compare("the logits, capped as described,", anatomy.cap(seen.uncapped_TV), seen.logits_TV)
    return AnatomyProof(
        max_abs_logit_difference=difference,
        logit_scale=scale,
        dtype=str(dtype).removeprefix("torch."),
        tokens=len(tokens_T),
    )


def _check_patterns(seen: Recording) -> None:
    for i, layer in enumerate(seen.layers):
        pattern_HTT = layer.pattern_HTT
        if pattern_HTT.triu(1).any():
            raise ModelError(
                f"attention of layer {i} looks at later tokens: the causal mask is not in place",
                hint="attention must be causal and eager",
            )
        off = (pattern_HTT.float().sum(-1) - 1).abs().max().item()
        if off > 1e-2:
            raise ModelError(f"attention patterns of layer {i} do not sum to 1: off by {off:.3g}")

"""Gemma 2 and Gemma 3 (text)."""

from typing import Any

from clew.models.anatomy.llama import projections
from clew.models.anatomy.parts import Anatomy, Block, Norm


def gemma(hf: Any) -> Anatomy:
    """RMSNorms before and after each sublayer with gain 1 + weight, scaled embeddings, capped logits.

    Sliding windows, the norms of queries and keys and the cap on attention scores are in the recorded patterns.
    """

    def norm(module: Any) -> Norm:
        return Norm(module, module.weight, eps=float(module.eps), offset=1.0)

    def block(module: Any) -> Block:
        return Block(
            module=module,
            attn_norm=norm(module.input_layernorm),
            attention=projections(module.self_attn, norm),
            attn_post_norm=norm(module.post_attention_layernorm),
            mlp_norm=norm(module.pre_feedforward_layernorm),
            mlp=module.mlp,
            mlp_post_norm=norm(module.post_feedforward_layernorm),
            d_mlp=module.mlp.down_proj.in_features,
        )

    return Anatomy(
        decoder=hf.model,
        embed=hf.model.embed_tokens,
        W_E_VD=hf.model.embed_tokens.weight,
        blocks=tuple(block(m) for m in hf.model.layers),
        final_norm=norm(hf.model.norm),
        unembed=hf.lm_head,
        W_U_VD=hf.lm_head.weight,
        b_U_V=hf.lm_head.bias,
        logit_cap=hf.config.final_logit_softcapping,
    )

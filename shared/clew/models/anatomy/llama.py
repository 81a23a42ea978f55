"""Llama, Mistral, Qwen 2 and Qwen 3."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from clew.models.anatomy.parts import Anatomy, Attention, Block, Norm, Scores


def rms_norm(module: Any) -> Norm:
    return Norm(module, module.weight, eps=float(module.variance_epsilon))


def projections(attn: Any, norm: Callable[[Any], Norm] = rms_norm) -> Attention:
    """Separate q, k, v and o projections, heads one after another; norms of queries and keys where there are any."""
    head_dim = attn.head_dim

    def weight(projection: Any) -> Tensor:
        matrix: Tensor = projection.weight.view(-1, head_dim, projection.in_features)
        return matrix

    def bias(projection: Any) -> Tensor | None:
        return None if projection.bias is None else projection.bias.view(-1, head_dim)

    return Attention(
        attn,
        W_V_KED=weight(attn.v_proj),
        W_O_DHE=attn.o_proj.weight.view(attn.o_proj.out_features, -1, head_dim),
        scores=Scores(
            W_Q_HED=weight(attn.q_proj),
            W_K_KED=weight(attn.k_proj),
            scale=float(attn.scaling),
            b_Q_HE=bias(attn.q_proj),
            b_K_KE=bias(attn.k_proj),
            q_norm=norm(attn.q_norm) if hasattr(attn, "q_norm") else None,
            k_norm=norm(attn.k_norm) if hasattr(attn, "k_norm") else None,
            cap_at=getattr(attn, "attn_logit_softcapping", None),
        ),
        b_V_KE=bias(attn.v_proj),
        b_O_D=attn.o_proj.bias,
    )


def llama(hf: Any) -> Anatomy:
    """RMSNorm before each sublayer, rotary positions, grouped queries, gated MLP.

    Qwen 3 also norms queries and keys, Mistral and Qwen 2 may look through a sliding window: all of that is in the
    attention patterns, which are recorded as they are.
    """

    def block(module: Any) -> Block:
        return Block(
            module=module,
            attn_norm=rms_norm(module.input_layernorm),
            attention=projections(module.self_attn),
            mlp_norm=rms_norm(module.post_attention_layernorm),
            mlp=module.mlp,
            d_mlp=module.mlp.down_proj.in_features,
        )

    return Anatomy(
        decoder=hf.model,
        embed=hf.model.embed_tokens,
        W_E_VD=hf.model.embed_tokens.weight,
        blocks=tuple(block(m) for m in hf.model.layers),
        final_norm=rms_norm(hf.model.norm),
        unembed=hf.lm_head,
        W_U_VD=hf.lm_head.weight,
        b_U_V=hf.lm_head.bias,
    )

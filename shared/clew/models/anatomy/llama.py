"""Llama, Mistral, Qwen 2 and Qwen 3."""

from typing import Any

from clew.models.anatomy.parts import Anatomy, Attention, Block, Norm


def rms_norm(module: Any) -> Norm:
    return Norm(module, module.weight, eps=float(module.variance_epsilon))


def projections(attn: Any) -> Attention:
    """Separate q, k, v and o projections, heads one after another."""
    head_dim, b_V = attn.head_dim, attn.v_proj.bias
    return Attention(
        attn,
        W_V_KED=attn.v_proj.weight.view(-1, head_dim, attn.v_proj.in_features),
        W_O_DHE=attn.o_proj.weight.view(attn.o_proj.out_features, -1, head_dim),
        b_V_KE=None if b_V is None else b_V.view(-1, head_dim),
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

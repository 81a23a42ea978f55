"""GPT-2, and GPT-NeoX as in Pythia: LayerNorms, biases, and queries, keys and values in one matrix."""

from typing import Any

from clew.models.anatomy.parts import Anatomy, Attention, Block, Norm, Scores


def _layer_norm(module: Any) -> Norm:
    return Norm(module, module.weight, eps=float(module.eps), centred=True, bias_D=module.bias)


def gpt2(hf: Any) -> Anatomy:
    """Learned positions; weights stored [in, out]; all queries, then all keys, then all values."""

    def attention(attn: Any) -> Attention:
        shape = (3, attn.num_heads, attn.head_dim)
        W_Q_HED, W_K_KED, W_V_KED = attn.c_attn.weight.T.unflatten(0, shape)
        b_Q_HE, b_K_KE, b_V_KE = attn.c_attn.bias.unflatten(0, shape)
        return Attention(
            attn,
            W_V_KED=W_V_KED,
            W_O_DHE=attn.c_proj.weight.T.unflatten(1, shape[1:]),
            scores=Scores(W_Q_HED, W_K_KED, float(attn.scaling), b_Q_HE, b_K_KE),
            b_V_KE=b_V_KE,
            b_O_D=attn.c_proj.bias,
        )

    def block(module: Any) -> Block:
        return Block(
            module=module,
            attn_norm=_layer_norm(module.ln_1),
            attention=attention(module.attn),
            mlp_norm=_layer_norm(module.ln_2),
            mlp=module.mlp,
            d_mlp=module.mlp.c_proj.weight.shape[0],
        )

    decoder = hf.transformer
    return Anatomy(
        decoder=decoder,
        embed=decoder.wte,
        W_E_VD=decoder.wte.weight,
        position_embed=decoder.wpe,
        blocks=tuple(block(m) for m in decoder.h),
        final_norm=_layer_norm(decoder.ln_f),
        unembed=hf.lm_head,
        W_U_VD=hf.lm_head.weight,
        b_U_V=hf.lm_head.bias,
    )


def gpt_neox(hf: Any) -> Anatomy:
    """Parallel blocks (unless the config says otherwise); query, key and value of each head side by side."""

    def attention(attn: Any) -> Attention:
        fused, heads = attn.query_key_value, (-1, 3, attn.head_size)
        W_Q_HED, W_K_KED, W_V_KED = fused.weight.unflatten(0, heads).unbind(1)
        b_Q_HE, b_K_KE, b_V_KE = (None,) * 3 if fused.bias is None else fused.bias.unflatten(0, heads).unbind(1)
        return Attention(
            attn,
            W_V_KED=W_V_KED,
            W_O_DHE=attn.dense.weight.unflatten(1, (-1, attn.head_size)),
            scores=Scores(W_Q_HED, W_K_KED, float(attn.scaling), b_Q_HE, b_K_KE),
            b_V_KE=b_V_KE,
            b_O_D=attn.dense.bias,
        )

    def block(module: Any) -> Block:
        return Block(
            module=module,
            attn_norm=_layer_norm(module.input_layernorm),
            attention=attention(module.attention),
            mlp_norm=_layer_norm(module.post_attention_layernorm),
            mlp=module.mlp,
            d_mlp=module.mlp.dense_4h_to_h.in_features,
            parallel=module.use_parallel_residual,
        )

    decoder = hf.gpt_neox
    return Anatomy(
        decoder=decoder,
        embed=decoder.embed_in,
        W_E_VD=decoder.embed_in.weight,
        blocks=tuple(block(m) for m in decoder.layers),
        final_norm=_layer_norm(decoder.final_layer_norm),
        unembed=hf.lm_head,
        W_U_VD=hf.lm_head.weight,
        b_U_V=hf.lm_head.bias,
    )

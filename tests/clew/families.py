"""A small random model of every family, with every gain, bias and window away from its default."""

from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from clew.models import Model, prepare_model

VOCAB, D, LAYERS, CONTEXT, WINDOW = 61, 24, 3, 48, 4

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = _COMMON | {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8}
_SLIDING: dict[str, Any] = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_GEMMA = _GROUPED | _SLIDING | {"attention_bias": True, "query_pre_attn_scalar": 12, "final_logit_softcapping": 3.0}
_NEOX = _COMMON | {"intermediate_size": 40, "rotary_pct": 0.5, "hidden_dropout": 0.1, "attention_dropout": 0.1}


def _gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=D,
        n_layer=LAYERS,
        n_head=4,
        n_positions=CONTEXT,
        n_inner=40,
        bos_token_id=1,
        eos_token_id=2,
        scale_attn_by_inverse_layer_idx=True,
    )
    return GPT2LMHeadModel(config)


FAMILIES: dict[str, Any] = {
    "gpt2": _gpt2,
    "neox-parallel": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_NEOX, use_parallel_residual=True)),
    "neox-sequential": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**_NEOX, use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_GROUPED, **_SLIDING, use_sliding_window=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_GROUPED, attention_bias=True)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_GEMMA, attn_logit_softcapping=2.0)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_GEMMA)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**_GROUPED, sliding_window=WINDOW)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True)),
}


def family_hf(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    hf: PreTrainedModel = FAMILIES[name]()
    torch.nn.Module.to(hf, dtype)
    generator = torch.Generator().manual_seed(seed)
    shifted = name.startswith("gemma")
    with torch.no_grad():
        for parameter, weight in hf.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if parameter.endswith("bias"):
                value = 0.3 * noise
            elif "norm" in parameter or ".ln_" in parameter:
                value = 0.5 * noise.tanh() + (0 if shifted else 1)
            elif "embed" in parameter or "wte" in parameter or "wpe" in parameter:
                value = noise / (D**0.5 if shifted else 1)
            else:
                fan_in = weight.shape[0] if ".c_" in parameter else weight.shape[-1]  # Conv1D is stored [in, out]
                value = 1.5 * noise / fan_in**0.5
            weight.copy_(value)
    return hf


def family_model(name: str, **options: Any) -> Model:
    return prepare_model(family_hf(name, **options))

"""The anatomy accepts what it understands and refuses everything else, saying what is off."""

import itertools
from typing import Any

import pytest
import torch
from tests.clew.toys import toy_hf, toy_model, toy_tokens
from torch import Tensor, nn
from transformers import GPTJConfig, GPTJForCausalLM, MistralConfig, MistralForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from clew.models import prepare_model, record
from clew.models.anatomy import describe
from clew.models.proof import prove
from clew_spec.errors import ModelError


@pytest.mark.parametrize(
    ("n_kv_heads", "tied", "biases"), list(itertools.product([1, 2, 4], [True, False], [True, False]))
)
def test_every_kind_of_llama_is_reproduced_to_rounding(n_kv_heads: int, tied: bool, biases: bool) -> None:
    proof = toy_model(n_kv_heads=n_kv_heads, tied=tied, biases=biases).proof
    assert proof.logit_scale > 0
    assert proof.max_abs_logit_difference <= 1e-12 * proof.logit_scale
    assert proof.dtype == "float64"


def test_mistral_with_a_sliding_window_is_reproduced() -> None:
    config = MistralConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=5,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    hf = MistralForCausalLM(config)
    nn.Module.to(hf, torch.float64)
    model = prepare_model(hf)
    assert model.proof.max_abs_logit_difference <= 1e-12 * model.proof.logit_scale
    pattern_HTT = record(model.hf, model.anatomy, toy_tokens(9, vocab_size=50)).layers[1].pattern_HTT
    assert not pattern_HTT.tril(-5).any()
    assert pattern_HTT.tril(-4).any()


def test_float32_is_reproduced_to_its_own_rounding() -> None:
    proof = toy_model(dtype=torch.float32).proof
    assert proof.max_abs_logit_difference <= 1e-5 * proof.logit_scale


def test_attention_is_eager_causal_and_exact() -> None:
    model, tokens_T = toy_model(), toy_tokens(9)
    assert model.hf.config._attn_implementation == "eager"
    seen = record(model.hf, model.anatomy, tokens_T)
    for layer in seen.layers:
        assert not layer.pattern_HTT.triu(1).any()
        torch.testing.assert_close(layer.pattern_HTT.sum(-1), torch.ones(4, 9, dtype=torch.float64), atol=1e-6, rtol=0)
    later_T = tokens_T.clone()
    later_T[6:] = toy_tokens(3, seed=5)
    torch.testing.assert_close(
        record(model.hf, model.anatomy, later_T).logits_TV[:6], seen.logits_TV[:6], atol=1e-12, rtol=0
    )


def test_sdpa_becomes_eager() -> None:
    hf = toy_hf()
    hf.set_attn_implementation("sdpa")
    assert prepare_model(hf).hf.config._attn_implementation == "eager"


def test_unknown_architecture_is_refused_by_name() -> None:
    hf = GPTJForCausalLM(GPTJConfig(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, rotary_dim=2))
    with pytest.raises(ModelError, match="'gptj' is not understood") as refused:
        prepare_model(hf)
    assert "llama" in str(refused.value.expected)


def test_a_model_that_only_calls_itself_llama_is_refused() -> None:
    hf: Any = toy_hf()
    del hf.model.layers[1].self_attn.o_proj
    with pytest.raises(ModelError, match="not built like one"):
        describe(hf)


class _ShiftedGain(nn.Module):
    """Gemma's norm: the gain is one more than the stored weight."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x_TD: Tensor) -> Tensor:
        scale_T1 = torch.rsqrt(x_TD.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return x_TD * scale_T1 * torch.as_tensor(1 + self.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("norm", "where"),
    [
        ("layers.1.input_layernorm", "MLP inputs of layer 1"),
        ("layers.1.post_attention_layernorm", "MLP inputs of layer 1"),
        ("norm", "the logits"),
    ],
)
def test_an_unexpected_norm_is_found_where_it_is(norm: str, where: str, dtype: torch.dtype) -> None:
    hf: Any = toy_hf(dtype=dtype)
    hf.model.set_submodule(norm, _ShiftedGain(hf.model.get_submodule(norm)))
    with pytest.raises(ModelError, match=where if dtype == torch.float32 else "not the RMSNorm"):
        prepare_model(hf)


class _Scaled(nn.Module):
    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, *args: Any) -> Tensor:
        return torch.as_tensor(self.inner(*args) * self.by)


@pytest.mark.parametrize(
    ("part", "where"),
    [("model.layers.0.self_attn.o_proj", "MLP inputs of layer 0"), ("lm_head", "the logits")],
)
def test_hidden_multipliers_are_refused(part: str, where: str) -> None:
    hf: Any = toy_hf(dtype=torch.float32)
    hf.set_submodule(part, _Scaled(hf.get_submodule(part), 1.01))
    with pytest.raises(ModelError, match=where):
        prepare_model(hf)


def test_an_embedding_multiplier_is_part_of_what_is_recorded() -> None:
    hf: Any = toy_hf(dtype=torch.float32)
    hf.model.embed_tokens = _Scaled(hf.model.embed_tokens, 2.0)
    prepare_model(hf)


def test_a_missing_causal_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model()
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "eager", lambda **_: None)
    with pytest.raises(ModelError, match="looks at later tokens"):
        prove(model.hf, model.anatomy)

"""Small seeded models and coders with every part away from its default, so that a forgotten one shows."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from clew.models import Model, prepare_model

VOCAB = 61


def toy_hf(
    *,
    seed: int = 0,
    n_layers: int = 3,
    d_model: int = 24,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    tied: bool = False,
    biases: bool = False,
    vocab_size: int = VOCAB,
    max_context: int = 64,
    dtype: torch.dtype = torch.float64,
) -> LlamaForCausalLM:
    """A random Llama. Norm gains lie in 0.5..1.5; biases, where asked for, are as large as the weights make outputs."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=max_context,
        tie_word_embeddings=tied,
        attention_bias=biases,
        mlp_bias=biases,
        bos_token_id=1,
        eos_token_id=2,
    )
    hf = LlamaForCausalLM(config)
    torch.nn.Module.to(hf, dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                value = 1 + 0.5 * noise.tanh()
            elif name.endswith("bias"):
                value = 0.3 * noise
            elif "embed" in name:
                value = noise
            else:
                value = 1.5 * noise / weight.shape[-1] ** 0.5
            weight.copy_(value)
    return hf


def toy_model(*, tokenizer: bool = False, **options: Any) -> Model:
    """`toy_hf`, prepared; the options are its own."""
    return prepare_model(toy_hf(**options), toy_tokenizer() if tokenizer else None)


def toy_tokenizer(vocab_size: int = VOCAB) -> PreTrainedTokenizerFast:
    """Words w3, w4, ... between spaces are tokens 3, 4, ...; anything else is <unk> (0). <s> is 1, </s> is 2."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, vocab_size)}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    return cast(
        PreTrainedTokenizerFast, fast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    )


def toy_tokens(n: int, *, seed: int = 0, vocab_size: int = VOCAB) -> Tensor:
    return torch.randint(3, vocab_size, (n,), generator=torch.Generator().manual_seed(seed))


@dataclass
class ToyCoder:
    """A random ReLU-of-TopK transcoder with nothing but what attribution asks of a coder."""

    layer: int
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    k: int
    W_skip: Tensor | None = None
    hooks: tuple[str, str] = ("mlp.in", "mlp.out")
    W_later: dict[int, Tensor] = field(default_factory=dict)

    def encode(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        top = (x_ND.to(self.W_enc.dtype) @ self.W_enc.T + self.b_enc).topk(self.k, dim=-1)
        return top.indices, top.values.relu()


def toy_coder(
    model: Model,
    layer: int,
    *,
    n_features: int = 40,
    k: int = 6,
    seed: int = 0,
    biases: bool = True,
    skip: bool = False,
) -> ToyCoder:
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    d = model.d_model

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)

    return ToyCoder(
        layer=layer,
        W_enc=normal(n_features, d) / d**0.5,
        W_dec=normal(n_features, d) / d**0.5,
        b_enc=0.2 * normal(n_features),
        b_dec=0.3 * normal(d) if biases else torch.zeros(d, dtype=model.dtype),
        k=k,
        W_skip=0.5 * normal(d, d) / d**0.5 if skip else None,
    )


def toy_coders(
    model: Model, layers: list[int] | None = None, *, cross: bool = False, **options: Any
) -> dict[int, ToyCoder]:
    """One a layer; `cross` makes them one cross-layer transcoder."""
    chosen = list(range(model.n_layers)) if layers is None else layers
    coders = {layer: toy_coder(model, layer, **options) for layer in chosen}
    if cross:
        for layer, coder in coders.items():
            generator = torch.Generator().manual_seed(7000 + layer)
            for later in (each for each in chosen if each > layer):
                noise = torch.randn(coder.W_dec.shape, generator=generator, dtype=torch.float64).to(model.dtype)
                coder.W_later[later] = 0.7 * noise / model.d_model**0.5
    return coders

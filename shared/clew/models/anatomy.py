"""Where a language model keeps its parts: embedding, norms, W_V and W_O, MLPs, unembedding.

One short description per family. All tensors are views of the model's own parameters. Shape letters: B batch, T
position, D residual stream, V vocabulary, H heads, K key-value heads, E head dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from clew_spec.errors import ModelError


@dataclass(frozen=True)
class Norm:
    """`y = x * scale(x) * gain`. With `scale` frozen it is linear in x."""

    module: nn.Module
    gain_D: Tensor
    eps: float

    def scale(self, x_TD: Tensor) -> Tensor:
        """1 / sqrt(mean x^2 + eps), shape [..., T, 1]."""
        return torch.rsqrt(x_TD.pow(2).mean(-1, keepdim=True) + self.eps)

    def apply(self, x_TD: Tensor, scale_T1: Tensor) -> Tensor:
        return x_TD * scale_T1 * self.gain_D


@dataclass(frozen=True)
class Attention:
    """`out = sum over heads of A_h (x W_V^T + b_V) W_O^T, plus b_O`; query heads share key-value heads in groups."""

    module: nn.Module
    W_V_KED: Tensor
    W_O_DHE: Tensor
    b_V_KE: Tensor | None = None
    b_O_D: Tensor | None = None

    @property
    def n_heads(self) -> int:
        return self.W_O_DHE.shape[1]

    @property
    def n_kv_heads(self) -> int:
        return self.W_V_KED.shape[0]

    @property
    def group(self) -> int:
        """Query heads per key-value head; query head h reads key-value head h // group."""
        return self.n_heads // self.n_kv_heads

    def bias_TD(self, pattern_HTT: Tensor) -> Tensor | None:
        """What this attention writes whatever it reads; None without biases.

        b_V passes with the sum of each row of the pattern: 1, but only to the float32 in which softmax is computed.
        """
        if self.b_V_KE is None:
            return None if self.b_O_D is None else self.b_O_D.expand(pattern_HTT.shape[-1], -1)
        b_V_HE = self.b_V_KE.repeat_interleave(self.group, 0)
        through_TD = torch.einsum("ht,he,dhe->td", pattern_HTT.sum(-1), b_V_HE, self.W_O_DHE)
        return through_TD if self.b_O_D is None else through_TD + self.b_O_D


@dataclass(frozen=True)
class Block:
    """`mid = x + attention(attn_norm(x))`, `out = mid + mlp(mlp_norm(mid))`."""

    module: nn.Module
    attn_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: nn.Module
    d_mlp: int


@dataclass(frozen=True)
class Anatomy:
    """`logits = final_norm(blocks(embed(tokens))) W_U^T + b_U`."""

    decoder: nn.Module
    """The model without its unembedding."""
    embed: nn.Module
    W_E_VD: Tensor
    blocks: tuple[Block, ...]
    final_norm: Norm
    unembed: nn.Module
    W_U_VD: Tensor
    b_U_V: Tensor | None = None

    @property
    def norms(self) -> list[Norm]:
        return [n for b in self.blocks for n in (b.attn_norm, b.mlp_norm)] + [self.final_norm]


def _rms_norm(module: Any) -> Norm:
    return Norm(module, gain_D=module.weight, eps=float(module.variance_epsilon))


def _llama(hf: Any) -> Anatomy:
    """Llama and Mistral: RMSNorm before each sublayer, rotary positions, grouped queries, gated MLP."""

    def block(module: Any) -> Block:
        attn, head_dim = module.self_attn, module.self_attn.head_dim
        b_V = attn.v_proj.bias
        return Block(
            module=module,
            attn_norm=_rms_norm(module.input_layernorm),
            attention=Attention(
                attn,
                W_V_KED=attn.v_proj.weight.view(-1, head_dim, attn.v_proj.in_features),
                W_O_DHE=attn.o_proj.weight.view(attn.o_proj.out_features, -1, head_dim),
                b_V_KE=None if b_V is None else b_V.view(-1, head_dim),
                b_O_D=attn.o_proj.bias,
            ),
            mlp_norm=_rms_norm(module.post_attention_layernorm),
            mlp=module.mlp,
            d_mlp=module.mlp.down_proj.in_features,
        )

    return Anatomy(
        decoder=hf.model,
        embed=hf.model.embed_tokens,
        W_E_VD=hf.model.embed_tokens.weight,
        blocks=tuple(block(m) for m in hf.model.layers),
        final_norm=_rms_norm(hf.model.norm),
        unembed=hf.lm_head,
        W_U_VD=hf.lm_head.weight,
        b_U_V=hf.lm_head.bias,
    )


FAMILIES: dict[str, Callable[[PreTrainedModel], Anatomy]] = {"llama": _llama, "mistral": _llama}
"""By `model_type` of the Hugging Face config. A new family is one description here; `prove` decides if it is right."""


def require_family(model_type: object) -> str:
    """Raises ModelError for a `model_type` that has no description."""
    if isinstance(model_type, str) and model_type in FAMILIES:
        return model_type
    raise ModelError(
        f"the architecture {model_type!r} is not understood",
        expected=f"a model_type out of {', '.join(sorted(FAMILIES))}",
        hint="describe its parts in clew.models.anatomy, or use a model of a known family",
    )


def describe(hf: PreTrainedModel) -> Anatomy:
    """The anatomy of a model. Raises ModelError where the family is unknown or a part is not where it should be."""
    family = require_family(hf.config.model_type)
    try:
        return FAMILIES[family](hf)
    except (AttributeError, RuntimeError) as error:
        raise ModelError(
            f"the model calls itself {family!r} but is not built like one: {error}",
            hint="only the causal language model of a family is understood, not its variants",
        ) from error

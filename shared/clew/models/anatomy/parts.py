"""The parts of a language model: embedding, norms, W_V and W_O, MLPs, unembedding.

All tensors are views of the model's own parameters. Shape letters: B batch, T position, D residual stream,
V vocabulary, H heads, K key-value heads, E head dimension.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Norm:
    """`y = P x * scale(x) * gain + bias`. P subtracts the mean over D in a LayerNorm and does nothing in an RMSNorm.

    With `scale` frozen it is linear in x, plus the bias.
    """

    module: nn.Module
    weight_D: Tensor
    eps: float
    offset: float = 0.0
    """What the model adds to the stored weight: Gemma stores its gains less 1."""
    centred: bool = False
    bias_D: Tensor | None = None

    @property
    def gain_D(self) -> Tensor:
        return self.weight_D + self.offset if self.offset else self.weight_D

    def scale(self, x_TD: Tensor) -> Tensor:
        """1 / sqrt(mean (P x)^2 + eps), shape [..., T, 1]."""
        return torch.rsqrt(self._centre(x_TD).pow(2).mean(-1, keepdim=True) + self.eps)

    def linear(self, x_TD: Tensor, scale_T1: Tensor) -> Tensor:
        """The norm without its bias."""
        return self._centre(x_TD) * scale_T1 * self.gain_D

    def apply(self, x_TD: Tensor, scale_T1: Tensor) -> Tensor:
        y_TD = self.linear(x_TD, scale_T1)
        return y_TD if self.bias_D is None else y_TD + self.bias_D

    def fold(self, v_ND: Tensor) -> Tensor:
        """`P (gain * v)`: what reads v after the norm reads this before it, up to the scale; in the dtype of v."""
        return self._centre(v_ND * self.gain_D.to(v_ND.dtype))

    def _centre(self, x_TD: Tensor) -> Tensor:
        return x_TD - x_TD.mean(-1, keepdim=True) if self.centred else x_TD


@dataclass(frozen=True)
class Scores:
    """`pattern = softmax(cap(scale * R q . R k))` over the positions that a query sees, with `q = norm(x W_Q^T + b_Q)`
    and k alike; the norms, the rotations R and the cap where the family has them."""

    W_Q_HED: Tensor
    W_K_KED: Tensor
    scale: float
    b_Q_HE: Tensor | None = None
    b_K_KE: Tensor | None = None
    q_norm: Norm | None = None
    """Over E."""
    k_norm: Norm | None = None
    cap_at: float | None = None

    def cap(self, scores: Tensor) -> Tensor:
        return scores if self.cap_at is None else torch.tanh(scores / self.cap_at) * self.cap_at


@dataclass(frozen=True)
class Attention:
    """`out = sum over heads of A_h (x W_V^T + b_V) W_O^T, plus b_O`; query heads share key-value heads in groups."""

    module: nn.Module
    W_V_KED: Tensor
    W_O_DHE: Tensor
    scores: Scores
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

    def mixed(self, x_TD: Tensor, pattern_HTT: Tensor) -> Tensor:
        """[H, T, E]: what the heads make of what is read before W_O, with the pattern given."""
        v_KTE = torch.einsum("td,ked->kte", x_TD, self.W_V_KED)
        if self.b_V_KE is not None:
            v_KTE = v_KTE + self.b_V_KE[:, None]
        return pattern_HTT @ v_KTE.repeat_interleave(self.group, 0)

    def apply(self, x_TD: Tensor, pattern_HTT: Tensor) -> Tensor:
        """What is written for what is read, with the pattern given."""
        out_TD = torch.einsum("hte,dhe->td", self.mixed(x_TD, pattern_HTT), self.W_O_DHE)
        return out_TD if self.b_O_D is None else out_TD + self.b_O_D

    def constant_TD(self, pattern_HTT: Tensor, x_D: Tensor | None) -> Tensor | None:
        """What is written where every position reads `x_D` (None: nothing); None if that is nothing.

        b_V passes with the sum of each row of the pattern: 1, but only to the float32 in which softmax is computed.
        """
        value_KE = self.b_V_KE
        if x_D is not None:
            read_KE = torch.einsum("d,ked->ke", x_D, self.W_V_KED)
            value_KE = read_KE if value_KE is None else value_KE + read_KE
        if value_KE is None:
            return None if self.b_O_D is None else self.b_O_D.expand(pattern_HTT.shape[-1], -1)
        value_HE = value_KE.repeat_interleave(self.group, 0)
        through_TD = torch.einsum("ht,he,dhe->td", pattern_HTT.sum(-1), value_HE, self.W_O_DHE)
        return through_TD if self.b_O_D is None else through_TD + self.b_O_D


@dataclass(frozen=True)
class Block:
    """`mid = x + attention(attn_norm(x))`, `out = mid + mlp(mlp_norm(mid))`; post-norms come before each `+`.

    A parallel block computes `out = mid + mlp(mlp_norm(x))`: its MLP does not read its own attention.
    """

    module: nn.Module
    attn_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: nn.Module
    d_mlp: int
    attn_post_norm: Norm | None = None
    mlp_post_norm: Norm | None = None
    parallel: bool = False

    @property
    def attn_writer(self) -> nn.Module:
        """The module whose output is added to the residual stream: the attention, or the norm after it."""
        return self.attention.module if self.attn_post_norm is None else self.attn_post_norm.module

    @property
    def mlp_writer(self) -> nn.Module:
        """The module whose output is added to the residual stream: the MLP, or the norm after it."""
        return self.mlp if self.mlp_post_norm is None else self.mlp_post_norm.module

    def attention_bias_TD(self, pattern_HTT: Tensor, post_scale_T1: Tensor | None) -> Tensor | None:
        """What the attention sublayer adds whatever the residual stream holds; None without biases."""
        bias_TD = self.attention.constant_TD(pattern_HTT, self.attn_norm.bias_D)
        if self.attn_post_norm is None or post_scale_T1 is None:
            return bias_TD
        if bias_TD is not None:
            bias_TD = self.attn_post_norm.linear(bias_TD, post_scale_T1)
        own_D = self.attn_post_norm.bias_D
        if own_D is None:
            return bias_TD
        return own_D.expand(pattern_HTT.shape[-1], -1) if bias_TD is None else bias_TD + own_D


@dataclass(frozen=True)
class Anatomy:
    """`logits = cap(final_norm(blocks(embed(tokens) + positions)) W_U^T + b_U)`."""

    decoder: nn.Module
    """The model without its unembedding."""
    embed: nn.Module
    """Token ids to the residual stream, with whatever scale the model gives its embeddings."""
    W_E_VD: Tensor
    """As stored, without that scale."""
    blocks: tuple[Block, ...]
    final_norm: Norm
    unembed: nn.Module
    W_U_VD: Tensor
    b_U_V: Tensor | None = None
    position_embed: nn.Module | None = None
    """Learned positions, added to the embeddings of tokens."""
    logit_cap: float | None = None
    """`cap * tanh(logit / cap)` is the last thing computed. Attribution explains the logit before it."""

    @property
    def frozen_norms(self) -> list[Norm]:
        """Those whose scales the frozen network holds fixed. A norm after an MLP is part of what its coder replaces."""
        blocks = [n for b in self.blocks for n in (b.attn_norm, b.attn_post_norm, b.mlp_norm) if n is not None]
        return [*blocks, self.final_norm]

    @property
    def norms(self) -> list[Norm]:
        return self.frozen_norms + [b.mlp_post_norm for b in self.blocks if b.mlp_post_norm is not None]

    def cap(self, logits_TV: Tensor) -> Tensor:
        return logits_TV if self.logit_cap is None else torch.tanh(logits_TV / self.logit_cap) * self.logit_cap

    def logits(self, x_BTD: Tensor) -> Tensor:
        """The model's logits from the last residual stream."""
        logits: Tensor = self.unembed(self.final_norm.module(x_BTD))
        return self.cap(logits)

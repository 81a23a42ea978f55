"""The last position of many prompts, run again and again: what stands before it is run once and kept.

All that the study changes, it changes at the last position, where the next digit is decided, and nothing comes after.
So one token a prompt is enough, with the keys and values of the others from a cache. Shape letters as in `prompts`, and
L layers, H heads, E head dimension, D residual stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache

from clew.models import Model
from clew.models.recording import Hook, hooked, read_by, written_by
from studies.greater_than.prompts import DECADES


@dataclass(frozen=True)
class Seen:
    """What the model itself computes at the last position."""

    logits_BV: Tensor
    heads_LBHE: Tensor
    """What each head mixed of its values, before W_O."""
    patterns_LBHT: Tensor
    """Attention from the last position."""
    mlp_scale_LB1: Tensor
    """Of the norm before each MLP."""
    mlp_in_LBD: Tensor
    mlp_out_LBD: Tensor
    embed_BD: Tensor
    """The last token's own."""
    final_scale_B1: Tensor
    """Of the last norm."""


class LastPosition:
    """Prompts [B, T] of one model, at their last position."""

    @torch.inference_mode()
    def __init__(self, model: Model, tokens_BT: Tensor) -> None:
        self.model = model
        self._last_B1 = tokens_BT[:, -1:]
        ran: Any = model.anatomy.decoder(input_ids=tokens_BT[:, :-1], use_cache=True)
        self._before: Cache = ran.past_key_values
        self.seen = self._record()

    @torch.inference_mode()
    def logits(self, *hooks: Hook) -> Tensor:
        """[B, V] of the next token, with forward hooks in place on modules that see [B, 1, ...]."""
        with hooked(*hooks):
            ran = self.model.hf(input_ids=self._last_B1, past_key_values=self._before, use_cache=True)
        self._before.crop(-1)
        logits_B1V: Tensor = ran.logits
        return logits_B1V[:, 0]

    def _record(self) -> Seen:
        anatomy, found, hooks = self.model.anatomy, dict[str, list[Tensor]](), list[Hook]()

        def keep(module: nn.Module, name: str, of: Callable[[Any, Any, Any], Tensor]) -> None:
            def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                found.setdefault(name, []).append(of(args, kwargs, output))

            hooks.append((module, hook))

        def read(args: Any, kwargs: Any, _output: Any) -> Tensor:
            return read_by(args, kwargs)[:, 0]

        def written(_args: Any, _kwargs: Any, output: Any) -> Tensor:
            return written_by(output)[:, 0]

        def pattern(_args: Any, _kwargs: Any, output: Any) -> Tensor:
            return cast(Tensor, output[1][:, :, 0])

        keep(anatomy.embed, "embed", written)
        for layer, block in enumerate(anatomy.blocks):
            keep(head_mixer(self.model, layer), "heads", read)
            keep(block.attention.module, "patterns", pattern)
            keep(block.mlp_norm.module, "mlp_norm", read)
            keep(block.mlp, "mlp_in", read)
            keep(block.mlp_writer, "mlp_out", written)
        keep(anatomy.final_norm.module, "final", read)
        logits_BV = self.logits(*hooks)
        return Seen(
            logits_BV=logits_BV,
            heads_LBHE=torch.stack(found["heads"]).unflatten(-1, (anatomy.blocks[0].attention.n_heads, -1)),
            patterns_LBHT=torch.stack(found["patterns"]),
            mlp_scale_LB1=torch.stack(
                [block.mlp_norm.scale(x_BD) for block, x_BD in zip(anatomy.blocks, found["mlp_norm"], strict=True)]
            ),
            mlp_in_LBD=torch.stack(found["mlp_in"]),
            mlp_out_LBD=torch.stack(found["mlp_out"]),
            embed_BD=found["embed"][0],
            final_scale_B1=anatomy.final_norm.scale(found["final"][0]),
        )


def over_decades(x_BX: Tensor) -> Tensor:
    """The mean over the start decades of each context, in place of every one of them: what says nothing of them."""
    x_NYX: Tensor = x_BX.unflatten(0, (-1, DECADES))
    return x_NYX.mean(1, keepdim=True).expand_as(x_NYX).flatten(0, 1)


def head_mixer(model: Model, layer: int) -> nn.Module:
    """The module that reads what all heads mixed [..., H E] and writes to the residual stream: W_O."""
    return cast(nn.Module, cast(Any, model.anatomy.blocks[layer].attention.module).o_proj)


def set_heads(model: Model, layer: int, heads: Sequence[int], mixed_BHE: Tensor) -> Hook:
    """Some heads of a layer mix `mixed_BHE` [B, H, E], of which only theirs is read."""
    attention = model.anatomy.blocks[layer].attention
    W_O_DHE, these = attention.W_O_DHE[:, list(heads)], list(heads)

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor:
        now_BHE = read_by(args, kwargs)[:, 0].unflatten(-1, (attention.n_heads, -1))
        moved_BD = torch.einsum("bhe,dhe->bd", (mixed_BHE - now_BHE)[:, these], W_O_DHE)
        return written_by(output) + moved_BD[:, None]

    return head_mixer(model, layer), hook


def set_mlp(model: Model, layer: int, out_BD: Tensor) -> Hook:
    """The MLP of a layer writes `out_BD`."""

    def hook(_module: nn.Module, _args: Any, _kwargs: Any, _output: Any) -> Tensor:
        return out_BD[:, None]

    return model.anatomy.blocks[layer].mlp_writer, hook

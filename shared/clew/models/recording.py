"""One forward pass, seen through read-only hooks: everything the frozen network needs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from clew.models.anatomy import Anatomy


@dataclass(frozen=True)
class LayerRecord:
    pattern_HTT: Tensor
    """Attention from target (first T) to source (second T)."""
    attn_scale_T1: Tensor
    attn_post_scale_T1: Tensor | None
    """Of the norm after attention, in the families that have one."""
    mlp_scale_T1: Tensor
    mlp_in_TD: Tensor
    mlp_out_TD: Tensor
    """What is added to the residual stream, after the norm that some families put there."""


@dataclass(frozen=True)
class Recording:
    """Of one prompt, in the model's dtype and on its device."""

    tokens_T: Tensor
    embed_TD: Tensor
    position_TD: Tensor | None
    """Learned position embeddings, where the model has them."""
    layers: tuple[LayerRecord, ...]
    final_scale_T1: Tensor
    final_out_TD: Tensor
    """After the final norm: what the unembedding reads."""
    logits_TV: Tensor
    uncapped_TV: Tensor
    """The logits before the model's cap; the same tensor where there is none."""


Hook = tuple[nn.Module, Callable[..., Any]]
"""A module and its forward hook `(module, args, kwargs, output)`."""


@contextmanager
def hooked(*hooks: Hook) -> Iterator[None]:
    """Install hooks that are gone afterwards, whatever happens."""
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def read_by(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A module's input, given by position or as `hidden_states`."""
    return cast(Tensor, args[0] if args else kwargs["hidden_states"])


def written_by(output: Any) -> Tensor:
    """The tensor of a module that may return a tuple."""
    return cast(Tensor, output[0] if isinstance(output, tuple) else output)


@torch.inference_mode()
def record(hf: PreTrainedModel, anatomy: Anatomy, tokens_T: Tensor) -> Recording:
    """Run the model on one prompt with patterns, norm scales, MLP inputs and outputs recorded.

    Needs eager attention: other implementations do not return their patterns.
    """
    seen: dict[tuple[int, str], Tensor] = {}
    last = len(anatomy.blocks)

    def keep_input(module: nn.Module, layer: int, name: str) -> Hook:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            seen[layer, name] = read_by(args, kwargs)[0]

        return module, hook

    def keep_output(module: nn.Module, layer: int, name: str) -> Hook:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            seen[layer, name] = written_by(output)[0]

        return module, hook

    def keep_pattern(module: nn.Module, layer: int) -> Hook:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            seen[layer, "pattern"] = output[1][0]

        return module, hook

    hooks = [
        keep_output(anatomy.embed, 0, "embed"),
        keep_input(anatomy.final_norm.module, last, "final_in"),
        keep_output(anatomy.final_norm.module, last, "final_out"),
        keep_output(anatomy.unembed, last, "uncapped"),
    ]
    if anatomy.position_embed is not None:
        hooks.append(keep_output(anatomy.position_embed, 0, "position"))
    for i, block in enumerate(anatomy.blocks):
        hooks += [
            keep_input(block.attn_norm.module, i, "attn_in"),
            keep_pattern(block.attention.module, i),
            keep_input(block.mlp_norm.module, i, "mlp_norm_in"),
            keep_input(block.mlp, i, "mlp_in"),
            keep_output(block.mlp_writer, i, "mlp_out"),
        ]
        if block.attn_post_norm is not None:
            hooks.append(keep_input(block.attn_post_norm.module, i, "attn_post_in"))
    with hooked(*hooks):
        logits_TV = hf(input_ids=tokens_T[None].to(anatomy.W_E_VD.device), use_cache=False).logits[0]
    layers = tuple(
        LayerRecord(
            pattern_HTT=seen[i, "pattern"],
            attn_scale_T1=block.attn_norm.scale(seen[i, "attn_in"]),
            attn_post_scale_T1=(
                None if block.attn_post_norm is None else block.attn_post_norm.scale(seen[i, "attn_post_in"])
            ),
            mlp_scale_T1=block.mlp_norm.scale(seen[i, "mlp_norm_in"]),
            mlp_in_TD=seen[i, "mlp_in"],
            mlp_out_TD=seen[i, "mlp_out"],
        )
        for i, block in enumerate(anatomy.blocks)
    )
    return Recording(
        tokens_T=tokens_T,
        embed_TD=seen[0, "embed"],
        position_TD=seen.get((0, "position")),
        layers=layers,
        final_scale_T1=anatomy.final_norm.scale(seen[last, "final_in"]),
        final_out_TD=seen[last, "final_out"],
        logits_TV=logits_TV,
        uncapped_TV=seen[last, "uncapped"],
    )

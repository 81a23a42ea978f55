"""Read activations, and continue a forward pass from the middle. Shape letters as in `clew.models.anatomy`."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clew.models.model import Model
from clew.models.recording import hooked, read_by, written_by


@dataclass(frozen=True)
class MlpActivations:
    x_BTD: Tensor
    """What the MLP module receives, after its norm."""
    y_BTD: Tensor
    """What is added to the residual stream: what the MLP returns, after the norm that some families put there."""


class _Deepest(Exception):
    """Not an error: how a forward pass ends early."""


Place = tuple[int, str]
"""Layer and hook: `mlp.in`, `mlp.out`, or `resid`, the residual stream after the block."""


@torch.inference_mode()
def hook_activations(
    model: Model, tokens_BT: Tensor, places: Collection[Place], positions_BT: Tensor | None = None
) -> dict[Place, Tensor]:
    """[B, T, D] at each of `places`, from one forward pass that ends after the deepest of them.

    `tokens_BT` int64, on any device; the activations are in the model's dtype on its device. Where `positions_BT` is
    given and begins anew in a row, so does the text: no token attends to what stands before that.
    """
    found: dict[Place, Tensor] = {}
    deepest = max(layer for layer, _ in places)
    resid_is_last = (deepest, "resid") in places

    def keep_read(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            found[layer, "mlp.in"] = read_by(args, kwargs)

        return hook

    def keep_written(layer: int, name: str, last: bool) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            found[layer, name] = written_by(output)
            if last:
                raise _Deepest

        return hook

    hooks = []
    for layer in {layer for layer, hook in places if hook != "resid"}:
        block, last = model.anatomy.blocks[layer], layer == deepest and not resid_is_last
        hooks += [(block.mlp, keep_read(layer)), (block.mlp_writer, keep_written(layer, "mlp.out", last))]
    for layer in {layer for layer, hook in places if hook == "resid"}:
        hooks.append((model.anatomy.blocks[layer].module, keep_written(layer, "resid", layer == deepest)))
    try:
        with hooked(*hooks):
            model.anatomy.decoder(
                input_ids=tokens_BT.to(model.device), position_ids=_on(model, positions_BT), use_cache=False
            )
    except _Deepest:
        pass
    return {place: found[place] for place in places}


def _on(model: Model, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(model.device)


def mlp_activations(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> dict[int, MlpActivations]:
    """MLP inputs and outputs of some layers, as `hook_activations` finds them."""
    found = hook_activations(model, tokens_BT, [(layer, hook) for layer in layers for hook in ("mlp.in", "mlp.out")])
    return {layer: MlpActivations(found[layer, "mlp.in"], found[layer, "mlp.out"]) for layer in layers}


@dataclass
class Trace:
    """One whole forward pass, from which passes can be continued at the layers asked for."""

    logits_BTV: Tensor
    resid_mid: dict[int, Tensor] = field(default_factory=dict)
    """By layer, [B, T, D]: the residual stream that the MLP's output is added to."""
    mlp_in: dict[int, Tensor] = field(default_factory=dict)
    mlp_out: dict[int, Tensor] = field(default_factory=dict)
    block_inputs: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    """What each block was called with beside the residual stream: mask, positions."""


@torch.inference_mode()
def trace(model: Model, tokens_BT: Tensor, layers: Sequence[int], positions_BT: Tensor | None = None) -> Trace:
    """Run the model once and keep what `logits_from` needs at `layers`. Positions as for `hook_activations`."""
    seen = Trace(logits_BTV=torch.empty(0))

    def keep_mid(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            seen.resid_mid[layer] = read_by(args, kwargs)

        return hook

    def add_attention(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            attention_out[layer] = written_by(output)

        return hook

    def keep_read(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            seen.mlp_in[layer] = read_by(args, kwargs)

        return hook

    def keep_written(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            seen.mlp_out[layer] = written_by(output)

        return hook

    def keep_inputs(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Any], _output: Any) -> None:
            seen.block_inputs[layer] = args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}

        return hook

    attention_out: dict[int, Tensor] = {}
    blocks = model.anatomy.blocks
    hooks = [(block.module, keep_inputs(i)) for i, block in enumerate(blocks)]
    for i in set(layers):
        hooks += [
            (blocks[i].mlp_norm.module, keep_mid(i)),
            (blocks[i].mlp, keep_read(i)),
            (blocks[i].mlp_writer, keep_written(i)),
        ]
        if blocks[i].parallel:
            hooks.append((blocks[i].attention.module, add_attention(i)))
    with hooked(*hooks):
        seen.logits_BTV = model.hf(
            input_ids=tokens_BT.to(model.device), position_ids=_on(model, positions_BT), use_cache=False
        ).logits
    for layer, out_BTD in attention_out.items():
        seen.resid_mid[layer] = seen.resid_mid[layer] + out_BTD
    return seen


@torch.inference_mode()
def resid_from(model: Model, seen: Trace, layer: int, mlp_out_BTD: Tensor) -> Tensor:
    """The last residual stream [B, T, D], which `Anatomy.logits` reads, with `mlp_out_BTD` in place of what the MLP of
    `layer` wrote; layers below are not run again."""
    x_BTD = seen.resid_mid[layer] + mlp_out_BTD
    for i in range(layer + 1, model.n_layers):
        args, kwargs = seen.block_inputs[i]
        x_BTD = written_by(model.anatomy.blocks[i].module(x_BTD, *args, **kwargs))
    return x_BTD


@torch.inference_mode()
def logits_from(model: Model, seen: Trace, layer: int, mlp_out_BTD: Tensor) -> Tensor:
    """Logits [B, T, V] of what `resid_from` gives."""
    return model.anatomy.logits(resid_from(model, seen, layer, mlp_out_BTD))

"""Read MLP activations, and continue a forward pass from the middle. Shape letters as in `clew.models.anatomy`."""

from collections.abc import Callable, Sequence
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


@torch.inference_mode()
def mlp_activations(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> dict[int, MlpActivations]:
    """MLP inputs and outputs of some layers, from one forward pass that ends after the deepest of them.

    `tokens_BT` int64, on any device; the activations are in the model's dtype on its device.
    """
    found: dict[int, MlpActivations] = {}
    deepest = max(layers)

    read: dict[int, Tensor] = {}

    def keep_read(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            read[layer] = read_by(args, kwargs)

        return hook

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            found[layer] = MlpActivations(read[layer], written_by(output))
            if layer == deepest:
                raise _Deepest

        return hook

    blocks = model.anatomy.blocks
    try:
        with hooked(
            *((blocks[i].mlp, keep_read(i)) for i in set(layers)),
            *((blocks[i].mlp_writer, keep(i)) for i in set(layers)),
        ):
            model.anatomy.decoder(input_ids=tokens_BT.to(model.device), use_cache=False)
    except _Deepest:
        pass
    return {layer: found[layer] for layer in layers}


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
def trace(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> Trace:
    """Run the model once and keep what `logits_from` needs at `layers`."""
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
        seen.logits_BTV = model.hf(input_ids=tokens_BT.to(model.device), use_cache=False).logits
    for layer, out_BTD in attention_out.items():
        seen.resid_mid[layer] = seen.resid_mid[layer] + out_BTD
    return seen


@torch.inference_mode()
def logits_from(model: Model, seen: Trace, layer: int, mlp_out_BTD: Tensor) -> Tensor:
    """Logits [B, T, V] with `mlp_out_BTD` in place of what the MLP of `layer` wrote; layers below are not run again."""
    x_BTD = seen.resid_mid[layer] + mlp_out_BTD
    for i in range(layer + 1, model.n_layers):
        args, kwargs = seen.block_inputs[i]
        x_BTD = written_by(model.anatomy.blocks[i].module(x_BTD, *args, **kwargs))
    return model.anatomy.logits(x_BTD)

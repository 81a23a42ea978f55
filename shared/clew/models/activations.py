"""Read MLP activations, and continue a forward pass from the middle. Shape letters as in `clew.models.anatomy`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from clew.models.model import Model
from clew.models.recording import hooked, read_by, written_by


@dataclass(frozen=True)
class MlpActivations:
    x_BTD: Tensor
    """What the MLP module receives, after its norm."""
    y_BTD: Tensor
    """What the MLP module returns."""


class _Deepest(Exception):
    """Not an error: how a forward pass ends early."""


@torch.inference_mode()
def mlp_activations(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> dict[int, MlpActivations]:
    """MLP inputs and outputs of some layers, from one forward pass that ends after the deepest of them.

    `tokens_BT` int64, on any device; the activations are in the model's dtype on its device.
    """
    found: dict[int, MlpActivations] = {}
    deepest = max(layers)

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            found[layer] = MlpActivations(read_by(args, kwargs), written_by(output))
            if layer == deepest:
                raise _Deepest

        return hook

    try:
        with hooked(*((model.anatomy.blocks[i].mlp, keep(i)) for i in set(layers))):
            model.anatomy.decoder(input_ids=tokens_BT.to(model.device), use_cache=False)
    except _Deepest:
        pass
    return {layer: found[layer] for layer in layers}


@dataclass
class Trace:
    """One whole forward pass, from which passes can be continued at the layers asked for."""

    logits_BTV: Tensor
    resid_mid: dict[int, Tensor] = field(default_factory=dict)
    """By layer, [B, T, D]: the residual stream between attention and MLP."""
    mlp_in: dict[int, Tensor] = field(default_factory=dict)
    mlp_out: dict[int, Tensor] = field(default_factory=dict)
    block_kwargs: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What each block was called with beside the residual stream: mask, positions."""


@torch.inference_mode()
def trace(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> Trace:
    """Run the model once and keep what `logits_from` needs at `layers`."""
    seen = Trace(logits_BTV=torch.empty(0))

    def keep_mid(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            seen.resid_mid[layer] = read_by(args, kwargs)

        return hook

    def keep_mlp(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            seen.mlp_in[layer], seen.mlp_out[layer] = read_by(args, kwargs), written_by(output)

        return hook

    def keep_kwargs(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, kwargs: dict[str, Any], _output: Any) -> None:
            seen.block_kwargs[layer] = {k: v for k, v in kwargs.items() if k != "hidden_states"}

        return hook

    blocks = model.anatomy.blocks
    hooks = [(block.module, keep_kwargs(i)) for i, block in enumerate(blocks)]
    hooks += [(blocks[i].mlp_norm.module, keep_mid(i)) for i in set(layers)]
    hooks += [(blocks[i].mlp, keep_mlp(i)) for i in set(layers)]
    with hooked(*hooks):
        seen.logits_BTV = model.hf(input_ids=tokens_BT.to(model.device), use_cache=False).logits
    return seen


@torch.inference_mode()
def logits_from(model: Model, seen: Trace, layer: int, mlp_out_BTD: Tensor) -> Tensor:
    """Logits [B, T, V] with `mlp_out_BTD` in place of what the MLP of `layer` wrote; layers below are not run again."""
    x_BTD = seen.resid_mid[layer] + mlp_out_BTD
    for i in range(layer + 1, model.n_layers):
        x_BTD = written_by(model.anatomy.blocks[i].module(x_BTD, **seen.block_kwargs[i]))
    return cast(Tensor, model.anatomy.unembed(model.anatomy.final_norm.module(x_BTD)))

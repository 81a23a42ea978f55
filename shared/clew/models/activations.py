"""Read activations, and continue a forward pass from the middle. Shape letters as in `clew.models.anatomy`."""

from collections.abc import Callable, Collection, Sequence
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


Place = tuple[int, str]
"""Layer and hook: `mlp.in`, `mlp.out`, or `resid`, the residual stream after the block."""


@torch.inference_mode()
def hook_activations(model: Model, tokens_BT: Tensor, places: Collection[Place]) -> dict[Place, Tensor]:
    """[B, T, D] at each of `places`, from one forward pass that ends after the deepest of them.

    `tokens_BT` int64, on any device; the activations are in the model's dtype on its device.
    """
    found: dict[Place, Tensor] = {}
    deepest = max(layer for layer, _ in places)
    resid_is_last = (deepest, "resid") in places

    def keep_mlp(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            found[layer, "mlp.in"], found[layer, "mlp.out"] = read_by(args, kwargs), written_by(output)
            if layer == deepest and not resid_is_last:
                raise _Deepest

        return hook

    def keep_resid(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            found[layer, "resid"] = written_by(output)
            if layer == deepest:
                raise _Deepest

        return hook

    blocks = model.anatomy.blocks
    hooks = [(blocks[i].mlp, keep_mlp(i)) for i in {layer for layer, hook in places if hook != "resid"}]
    hooks += [(blocks[i].module, keep_resid(i)) for i in {layer for layer, hook in places if hook == "resid"}]
    try:
        with hooked(*hooks):
            model.anatomy.decoder(input_ids=tokens_BT.to(model.device), use_cache=False)
    except _Deepest:
        pass
    return {place: found[place] for place in places}


def mlp_activations(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> dict[int, MlpActivations]:
    """MLP inputs and outputs of some layers, as `hook_activations` finds them."""
    found = hook_activations(model, tokens_BT, [(layer, hook) for layer in layers for hook in ("mlp.in", "mlp.out")])
    return {layer: MlpActivations(found[layer, "mlp.in"], found[layer, "mlp.out"]) for layer in layers}


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

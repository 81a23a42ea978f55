"""The model with something else at one hook of some of its layers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from clew.data import Batch
from clew.models import Model
from clew.models.anatomy import Block
from clew.models.recording import Hook, hooked, read_by, written_by

HOOKS = ("mlp.in", "mlp.out", "resid")
"""In the order in which a block comes to them."""

Write = Callable[[int, Tensor, Tensor], Tensor]
"""`write(layer, x_ND, y_ND)`: what to put in place of `y_ND`, where `x_ND` was read; N are the counted tokens."""


@contextmanager
def replaced(model: Model, hooks: Mapping[int, tuple[str, str]], counted_BT: Tensor, write: Write) -> Iterator[None]:
    """Inside, each layer of `hooks` holds at the second of its hooks what `write` makes of what is at the first.

    Layers come from below, and each sees what the replaced ones below it made. Only tokens of `counted_BT` (bool) are
    replaced; the others, which texts begin with, keep what they hold. Of nested replacements the inner one is given
    what the outer one wrote. Afterwards the model is as it was, whatever happened inside.

    Raises:
        ValueError: a layer would be read after it is written.
    """
    if not all(map(in_order, hooks.values())):
        raise ValueError("a layer cannot write before it has read")
    read: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            read[layer] = written_by(output)

        return hook

    def put(layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Any:
            y_BTD = written_by(output)
            instead_BTD = y_BTD.clone()
            x_ND, y_ND = read.pop(layer, y_BTD)[counted_BT], y_BTD[counted_BT]
            instead_BTD[counted_BT] = write(layer, x_ND, y_ND).to(y_BTD.dtype)
            return (instead_BTD, *output[1:]) if isinstance(output, tuple) else instead_BTD

        return hook

    installed: list[Hook] = []
    for layer, (hook_in, hook_out) in hooks.items():
        block = model.anatomy.blocks[layer]
        if hook_in != hook_out:
            installed.append((_holder(block, hook_in), keep(layer)))
        installed.append((_holder(block, hook_out), put(layer)))
    with hooked(*installed):
        yield


def in_order(hooks: tuple[str, str]) -> bool:
    """Whether what is read is there before what is written."""
    return HOOKS.index(hooks[0]) <= HOOKS.index(hooks[1])


@torch.inference_mode()
def last_resid(model: Model, batch: Batch) -> Tensor:
    """The last residual stream [B, T, D], which `Anatomy.logits` reads."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
        found.append(read_by(args, kwargs))

    with hooked((model.anatomy.final_norm.module, keep)):
        model.anatomy.decoder(input_ids=batch.tokens_BT, position_ids=batch.positions_BT, use_cache=False)
    return found[0]


def _holder(block: Block, hook: str) -> nn.Module:
    """The module that returns what a hook holds."""
    match hook:
        case "mlp.in":
            return block.mlp_norm.module
        case "mlp.out":
            return block.mlp_writer
        case _:
            return block.module

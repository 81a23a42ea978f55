"""What coders learn from: an MLP's inputs and outputs, token by token."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clew.models import Model, mlp_activations


def coder_dtype(model: Model) -> torch.dtype:
    """Coders are trained in float32, whatever the model runs in; in float64 where the model does."""
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def activations(model: Model, tokens_BT: Tensor, layers: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(layer, x_ND, y_ND) from one forward pass, which ends at the deepest layer; position 0 of each row left out."""
    found = mlp_activations(model, tokens_BT.to(model.device, non_blocking=True), layers)
    dtype = coder_dtype(model)
    for layer in layers:
        of_layer = found.pop(layer)
        yield layer, of_layer.x_BTD[:, 1:].flatten(0, 1).to(dtype), of_layer.y_BTD[:, 1:].flatten(0, 1).to(dtype)

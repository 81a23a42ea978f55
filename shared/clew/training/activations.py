"""What coders learn from: what a model's hooks hold, token by token."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clew.models import Model, Place, hook_activations

Route = tuple[Place, Place]
"""Where a coder reads and where it writes."""


def coder_dtype(model: Model) -> torch.dtype:
    """Coders are trained in float32, whatever the model runs in; in float64 where the model does."""
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def coder_key(layer: int, variant: str | None) -> str:
    """`L03`, or `L03.k16` where a layer has several: names a coder in metrics, folders and checkpoints."""
    return f"L{layer:02d}" if variant is None else f"L{layer:02d}.{variant}"


def route(layer: int, hooks: tuple[str, str]) -> Route:
    return (layer, hooks[0]), (layer, hooks[1])


def activations(model: Model, tokens_BT: Tensor, routes: Sequence[Route]) -> Iterator[tuple[Route, Tensor, Tensor]]:
    """(route, x_ND, y_ND) of each distinct route, in order, from one forward pass, which ends at the deepest place.

    Position 0 of each row is left out.
    """
    routes = list(dict.fromkeys(routes))
    places = [place for route in routes for place in route]
    found = hook_activations(model, tokens_BT.to(model.device, non_blocking=True), set(places))
    dtype = coder_dtype(model)

    def take() -> Tensor:
        place = places.pop(0)
        of_place = found[place] if place in places else found.pop(place)
        return of_place[:, 1:].flatten(0, 1).to(dtype)

    for each in routes:
        yield each, take(), take()

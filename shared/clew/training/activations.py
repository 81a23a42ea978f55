"""What coders learn from: what a model's hooks hold, token by token."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clew.data import Batch
from clew.models import Model, Place, hook_activations
from clew_spec.chunks import rows_at_once

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


class Activations:
    """Of a batch of rows, at every place of some routes, from forward passes that end at the deepest place.

    Of the tokens that count, in their order. Passes are over a few rows each; `shrink` divides how many, where memory
    is short.
    """

    def __init__(self, model: Model, batch: Batch, routes: Sequence[Route], *, shrink: int = 1) -> None:
        self.routes = list(dict.fromkeys(routes))
        self._places = [place for route in self.routes for place in route]
        self._dtype = coder_dtype(model)
        self._found: dict[Place, list[Tensor]] = {place: [] for place in self._places}
        for rows in batch.to(model.device).parts(
            rows_at_once(batch.tokens_BT.shape[1], model.device.type, shrink=shrink)
        ):
            counted_N = rows.counted_BT.flatten().nonzero()[:, 0]
            for place, held_BTD in hook_activations(model, rows.tokens_BT, self._found, rows.positions_BT).items():
                self._found[place].append(held_BTD.flatten(0, 1)[counted_N])

    def tensors(self) -> Iterator[Tensor]:
        for parts in self._found.values():
            yield from parts

    def __iter__(self) -> Iterator[tuple[Route, Tensor, Tensor]]:
        """(route, x_ND, y_ND) of each distinct route, in order, once: what is no longer needed is let go."""
        places = list(self._places)

        def take() -> Tensor:
            place = places.pop(0)
            parts = self._found[place]
            if place not in places:
                del self._found[place]
            return torch.cat(parts).to(self._dtype)

        for each in self.routes:
            yield each, take(), take()

"""How well coders do on text that they never learn from, while they train."""

import math
from collections.abc import Mapping

import torch

from clew.coders import Coder
from clew.data import Rows
from clew.evaluation.fvu import Fvu
from clew.models import Model
from clew.training.activations import activations, route


@torch.no_grad()
def heldout_fvu(
    model: Model, coders: Mapping[str, Coder], rows: Rows, *, tokens: int, rows_per_batch: int
) -> dict[str, float]:
    """FVU by key of coder on the first rows of `rows`: as many as hold `tokens`, or all."""
    n_rows = min(len(rows), math.ceil(tokens / rows.context))
    fvu = {key: Fvu() for key in coders}
    routes = {key: route(coder.layer, coder.hooks) for key, coder in coders.items()}
    for start in range(0, n_rows, rows_per_batch):
        tokens_BT = rows[slice(start, min(start + rows_per_batch, n_rows))]
        for each, x_ND, y_ND in activations(model, tokens_BT, list(routes.values())):
            for key, coder in coders.items():
                if routes[key] == each:
                    fvu[key].update(y_ND, coder.forward(x_ND))
    return {key: of_coder.value() for key, of_coder in fvu.items()}

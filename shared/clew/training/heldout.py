"""How well coders do on text that they never learn from, while they train."""

from collections.abc import Mapping

import torch

from clew.coders import Coder
from clew.data import Rows
from clew.evaluation.fvu import Fvu
from clew.models import Model
from clew.training.activations import activations


@torch.no_grad()
def heldout_fvu(
    model: Model, coders: Mapping[int, Coder], rows: Rows, *, tokens: int, rows_per_batch: int
) -> dict[int, float]:
    """FVU by layer on rows spread evenly over `rows`, always the same: as many as hold `tokens`, or all."""
    chosen = rows.spread(tokens)
    fvu = {layer: Fvu() for layer in coders}
    for start in range(0, len(chosen), rows_per_batch):
        tokens_BT = rows[chosen[start : start + rows_per_batch]]
        for layer, x_ND, y_ND in activations(model, tokens_BT, list(coders)):
            fvu[layer].update(y_ND, coders[layer].forward(x_ND))
    return {layer: of_layer.value() for layer, of_layer in fvu.items()}

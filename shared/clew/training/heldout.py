"""How well coders do on text that they never learn from, while they train."""

from collections.abc import Mapping, Sequence

import torch

from clew.coders import Coder, Reconstruction
from clew.data import Rows
from clew.evaluation.fvu import Fvu
from clew.models import Model
from clew.training.activations import Activations, route
from clew_spec.chunks import rows_at_once


@torch.no_grad()
def heldout_fvu(model: Model, sets: Sequence[Mapping[str, Coder]], rows: Rows, *, tokens: int) -> dict[str, float]:
    """FVU by key of coder on rows spread evenly over `rows`, always the same: as many as hold `tokens`, or all.

    The coders of one set write together: one per-layer coder, or all of a cross-layer transcoder.
    """
    fvu = {key: Fvu() for coders in sets for key in coders}
    routes = [route(coder.layer, coder.hooks) for coders in sets for coder in coders.values()]
    rows_per_batch = rows_at_once(rows.context, "cpu")
    chosen = rows.spread(tokens)
    for start in range(0, len(chosen), rows_per_batch):
        writing = [Reconstruction({coder.layer: coder for coder in coders.values()}) for coders in sets]
        found = Activations(model, rows.batch(chosen[start : start + rows_per_batch]), sorted(routes))
        for each, x_ND, y_ND in found:
            for coders, reconstruction in zip(sets, writing, strict=True):
                for key, coder in coders.items():
                    if route(coder.layer, coder.hooks) == each:
                        fvu[key].update(y_ND, reconstruction.at(coder.layer, x_ND)[0])
    return {key: of_coder.value() for key, of_coder in fvu.items()}

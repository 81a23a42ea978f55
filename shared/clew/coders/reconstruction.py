"""What a set of coders writes, layer after layer."""

from collections.abc import Mapping

from torch import Tensor

from clew.coders.coder import Coder, weighted_rows
from clew_spec.errors import InvalidSpec


class Reconstruction:
    """`y_hat` of each layer, for layers that are met from below, each once.

    A per-layer coder needs only what its own layer reads. What the features of a cross-layer transcoder write to later
    layers is kept until those are met: [N, d_out] a layer, whatever the number of coders below it.
    """

    def __init__(self, coders: Mapping[int, Coder]) -> None:
        self.coders = coders
        self._from_below: dict[int, Tensor] = {}
        self._at = -1

    def at(self, layer: int, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y_hat_ND, indices_NK, values_NK) of the coder of `layer`; `x_ND` in its dtype."""
        if layer <= self._at:
            raise ValueError(f"layer {layer} comes after layer {self._at}")
        self._at = layer
        coder = self.coders[layer]
        indices_NK, values_NK = coder.encode(x_ND)
        y_hat_ND = coder.decode(indices_NK, values_NK, x_ND)
        if layer in self._from_below:
            y_hat_ND = y_hat_ND + self._from_below.pop(layer)
        for later, W_dec_FD in coder.W_later.items():
            if later in self.coders:
                written_ND = weighted_rows(W_dec_FD, indices_NK, values_NK)
                below_ND = self._from_below.get(later)
                self._from_below[later] = written_ND if below_ND is None else below_ND.add_(written_ND)
        return y_hat_ND, indices_NK, values_NK


def require_whole(coders: Mapping[int, Coder]) -> None:
    """Raises InvalidSpec where coders are only a part of a cross-layer transcoder: what they write would be too."""
    crossing = {layer for layer, coder in coders.items() if coder.config.kind == "cross-layer-transcoder"}
    for layer in sorted(crossing):
        expected = [later for later in sorted(crossing) if later > layer]
        if (found := coders[layer].config.later_layers) != expected:
            raise InvalidSpec(
                f"the features of layer {layer} write to the layers {found}, and coders are given for {expected}",
                where="/spec/coders",
                expected="all coders of a cross-layer transcoder, and of one alone",
            )

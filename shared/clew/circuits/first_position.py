"""What the first position writes, carried up once for all targets.

Position 0 attends to itself alone, so what is written there comes to the other positions only through their attention,
and on its own way up meets nothing but position 0. A sweep of later targets therefore need not carry their reading
vectors down through position 0: at each layer it reads there, by value vectors, what has arrived.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clew.circuits.replacement import first_skipped

if TYPE_CHECKING:
    from clew.circuits.frozen import FrozenNetwork

FIRST = slice(0, 1)


class FirstPosition:
    """S nodes at position 0, ascending, and how much of each every layer's values hold there."""

    def __init__(self, network: "FrozenNetwork") -> None:
        nodes = network.nodes
        here = nodes.position == 0
        here[network.first_logit :] = False
        self.nodes_S = here.nonzero()[:, 0]
        layers_S = nodes.layer[self.nodes_S]
        # how many of them are written below each layer's attention: the first ones
        below = [int((layers_S < layer).sum()) for layer in range(len(network.layers))]
        row_of = torch.full((len(nodes) + 1,), len(self.nodes_S))
        row_of[self.nodes_S] = torch.arange(len(self.nodes_S))
        self.values = list(_values(network, row_of.to(network.device), len(self.nodes_S), below))
        """For each layer [below, K*E]: in units of what the layer's W_V makes of it, its norm folded and frozen."""


def _values(network: "FrozenNetwork", row_of: Tensor, n_nodes: int, below: list[int]) -> Iterator[Tensor]:
    """One layer after another; `row_of` [nodes + 1] is the place of each node, of others the place after the last."""
    x_SD = network.embed_TD.new_zeros(n_nodes + 1, network.d_model)
    x_SD[row_of[0]] = network.embed_TD[0]
    if network.position_TD is not None:
        x_SD[row_of[network.n_tokens]] = network.position_TD[0]
    for layer, n in enumerate(below):
        block = network.anatomy.blocks[layer]
        values_SE = network.values(layer, x_SD[:n], FIRST)
        yield values_SE
        skipped_SD = _through_skip(network, layer, x_SD[:n]) if block.parallel else None
        x_SD[:n] += _out_of_values(network, layer, values_SE)
        bias_TD = network.layers[layer].attention_bias_TD
        if bias_TD is not None:
            x_SD[row_of[network.columns[layer].biases_T[0]]] += bias_TD[0]
        if not block.parallel:
            skipped_SD = _through_skip(network, layer, x_SD)
        if skipped_SD is not None:
            x_SD[: len(skipped_SD)] += skipped_SD
        for vectors_TWD, nodes_TW in network.writers(layer, 1):
            x_SD.index_add_(0, row_of[nodes_TW[0]], vectors_TWD[0])


def _out_of_values(network: "FrozenNetwork", layer: int, values_SE: Tensor) -> Tensor:
    """[S, K*E] values at position 0 to what its attention to itself adds, [S, D]."""
    attention = network.anatomy.blocks[layer].attention
    heads_SHE = values_SE.view(len(values_SE), attention.n_kv_heads, -1).repeat_interleave(attention.group, 1)
    itself_H1 = network.seen.layers[layer].pattern_HTT[:, 0, 0, None].to(heads_SHE)
    return network.written_by_heads(layer, heads_SHE * itself_H1, FIRST)


def _through_skip(network: "FrozenNetwork", layer: int, x_SD: Tensor) -> Tensor | None:
    """What a skip transcoder's linear path adds at position 0; None where there is none."""
    return None if first_skipped(network.position_0) > 0 else network.skipped(layer, x_SD, FIRST)

"""Edges by one downward sweep, without autograd.

The frozen network is linear in the residual stream, so the edges into a target are its reading vector carried down:
at each layer contracted with what is written there (by lower layers too, of a cross-layer transcoder), then passed
through skip paths and attention. A batch of targets shares the matrix products; a target joins at its own layer, and
positions after the last target of a tile are never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from clew.circuits.frozen import FrozenNetwork

TILE_BYTES = 256 * 2**20
"""Bound on what one tile carries: `g` [positions, targets, D] and dense rows [targets, nodes]."""
TILE_TARGETS = 128
"""Targets swept together. Fewer waste positions less, more make larger matrix products."""


@dataclass(frozen=True)
class Rows:
    """Edges into some targets, as in `Edges`, with what they should add up to."""

    targets: Tensor
    offsets: Tensor
    sources: Tensor
    weights: Tensor
    values: Tensor
    """float64[R]: the target's value, computed from the model's own activations."""
    sums: Tensor
    """float64[R]: sum of the weights, and of those that are left out."""
    absolute_sums: Tensor
    """float64[R]: the same of |weights|."""


def tiles(network: FrozenNetwork, targets: Tensor) -> list[Tensor]:
    """Cut targets (node indices) into tiles of like position that keep within `TILE_BYTES`."""
    nodes = network.nodes
    by_position = targets[nodes.position[targets].argsort(stable=True)]
    width = network.n_tokens * network.d_model * 3 + len(nodes)
    n = max(1, min(TILE_TARGETS, TILE_BYTES // (width * network.dtype.itemsize)))
    n = -(-len(targets) // -(-len(targets) // n))
    return list(torch.split(by_position, n))


@torch.inference_mode()
def sweep(network: FrozenNetwork, targets: Tensor) -> Rows:
    """The edges into one tile of targets: node indices int64[R] of features and logits, in any order."""
    nodes = network.nodes
    # by layer, highest first: those already on their way are always the first ones
    order = targets[nodes.layer[targets].argsort(descending=True, stable=True)]
    layers, positions = nodes.layer[order], nodes.position[order]
    # what targets behind position 0 read there is looked up; only targets at it are carried down through it
    first, last = min(1, int(positions.min())), int(positions.max()) + 1
    T = last - first
    # by source, so that what is written anywhere lands in whole rows; the last row is of empty slots
    edges_MN = torch.zeros(len(nodes) + 1, len(order), dtype=network.dtype, device=network.device)
    at_first_SN = edges_MN.new_zeros(len(network.first_position.nodes_S) if first else 0, len(order))
    values = torch.zeros(len(order), dtype=torch.float64)
    n_layers = len(network.layers)
    g_TND = edges_MN.new_zeros(T, 0, network.d_model)

    def join(vectors_ND: Tensor, positions_N: Tensor) -> Tensor:
        fresh_TND = g_TND.new_zeros(T, len(vectors_ND), vectors_ND.shape[1])
        places_N = (positions_N - first).to(network.device)
        fresh_TND[places_N, torch.arange(len(vectors_ND), device=network.device)] = vectors_ND
        return torch.cat([g_TND, fresh_TND], 1)

    logits = order[layers == n_layers]
    if len(logits):
        which = logits - network.first_logit
        g_TND = join(network.unembedders()[which], nodes.position[logits].long())
        values[: len(logits)] = network.logits.values_N[which]
        if network.logits.biases_N is not None:
            edges_MN[network.first_logit - 1, : len(logits)] = network.logits.biases_N[which]
    for layer in range(int(layers.max().clamp(max=n_layers - 1)), -1, -1):
        n = g_TND.shape[1]
        parallel = network.anatomy.blocks[layer].parallel
        if n:
            for vectors_TWD, nodes_TW in network.writers(layer, last, first):
                edges_TWN = torch.bmm(vectors_TWD, g_TND.transpose(1, 2))
                if network.writes_once:
                    edges_MN[:, :n].index_copy_(0, nodes_TW.flatten(), edges_TWN.flatten(0, 1))
                else:  # a feature that writes to several layers collects an edge at each
                    edges_MN[:, :n].index_add_(0, nodes_TW.flatten(), edges_TWN.flatten(0, 1))
        skipped_TND = network.through_skip(layer, g_TND, first) if n else None
        if skipped_TND is not None and not parallel:
            g_TND = g_TND + skipped_TND
        new = order[layers == layer]
        features_N, positions_N = nodes.feature[new].long(), nodes.position[new].long()
        if len(new):
            values[n : n + len(new)] = network.feature_values(layer, features_N, positions_N)
        if len(new) and not parallel:
            g_TND = join(network.encoders(layer, features_N, positions_N), positions_N)
        bias_TD = network.layers[layer].attention_bias_TD
        if bias_TD is not None:
            edges_MN[network.columns[layer].biases_T[first:last], : g_TND.shape[1]] += _contract(
                g_TND, bias_TD[first:last]
            )
        values_TNE = network.to_values(layer, g_TND, first)
        if first:
            written_SE = network.first_position.values[layer]
            at_first_SN[: len(written_SE), : g_TND.shape[1]] += written_SE @ values_TNE[0].T
        g_TND = g_TND + network.from_values(layer, values_TNE[first:], first)
        # in a parallel block neither the skip path nor the features read the layer's own attention
        if skipped_TND is not None and parallel:
            g_TND = g_TND + skipped_TND
        if len(new) and parallel:
            g_TND = join(network.encoders(layer, features_N, positions_N), positions_N)
    edges_MN[first:last] = _contract(g_TND, network.embed_TD[first:last])
    if network.position_TD is not None:
        learned = slice(network.n_tokens + first, network.n_tokens + last)
        edges_MN[learned] = _contract(g_TND, network.position_TD[first:last])
    if first:
        edges_MN[network.first_position.nodes_S] = at_first_SN
    return _compress(order, edges_MN[:-1], values, network.left_out)


def _contract(g_TND: Tensor, written_TD: Tensor) -> Tensor:
    """Edges [T, N] from one vector a position."""
    return torch.bmm(g_TND, written_TD[:, :, None])[:, :, 0]


def _compress(targets: Tensor, edges_MN: Tensor, values: Tensor, left_out: Tensor) -> Rows:
    ascending = targets.argsort()
    rows_NM = edges_MN.T[ascending.to(edges_MN.device)].contiguous()
    exact_NM = rows_NM.double()
    sums, absolute_sums = exact_NM.sum(1), exact_NM.abs().sum(1)
    present = rows_NM != 0
    if left_out.any():
        present &= ~left_out.to(rows_NM.device)
    # numpy's is three times as fast as torch's on a CPU
    places = torch.from_numpy(np.flatnonzero(present.cpu().numpy()))
    n_nodes = rows_NM.shape[1]
    return Rows(
        targets=targets[ascending],
        offsets=torch.searchsorted(places, torch.arange(len(targets) + 1) * n_nodes),
        sources=(places % n_nodes).int(),
        weights=rows_NM.flatten().index_select(0, places.to(rows_NM.device)).cpu(),
        values=values[ascending],
        sums=sums.cpu(),
        absolute_sums=absolute_sums.cpu(),
    )


def merge(parts: Sequence[Rows]) -> Rows:
    """All rows, targets ascending; what one set of rows is already is left as it is."""
    if len(parts) == 1:
        return parts[0]
    targets = torch.cat([part.targets for part in parts])
    lengths = torch.cat([part.offsets.diff() for part in parts])
    order = targets.argsort()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths[order].cumsum(0)])
    sources = parts[0].sources.new_empty(int(offsets[-1]))
    weights = parts[0].weights.new_empty(int(offsets[-1]))
    place = iter(offsets[order.argsort()].tolist())
    # row by row: an index of all edges would take more memory than they do
    for part in parts:
        for (first, last), start in zip(pairwise(part.offsets.tolist()), place, strict=False):
            sources[start : start + last - first] = part.sources[first:last]
            weights[start : start + last - first] = part.weights[first:last]
    return Rows(
        targets=targets[order],
        offsets=offsets,
        sources=sources,
        weights=weights,
        values=torch.cat([part.values for part in parts])[order],
        sums=torch.cat([part.sums for part in parts])[order],
        absolute_sums=torch.cat([part.absolute_sums for part in parts])[order],
    )

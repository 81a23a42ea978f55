"""Edges into one feature, averaged over the tokens of a dataset on which it is active.

On every text the network is frozen as it is there, so each firing's edges add up to its value, and so do their means.
A text is what tokens attend within: a row, or a document's part of it.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from clew.circuits.attribution import text_of
from clew.circuits.connections import pullback, reading, written_below
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NODE_TYPES, NodeKind
from clew.circuits.replacement import Coder
from clew.circuits.sweep import Rows as EdgeRows
from clew.circuits.sweep import sweep, tiles
from clew.data import Rows
from clew.models import Model, hook_activations
from clew.reporting import Report, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.mean_edges import MeanEdges, MeanEdgesDocument, MeanPart, MeanSource, MeanToken


def capped(edges: Tensor, activations: Tensor) -> Tensor:
    """Edges into active features, each at most its target's activation.

    For an edge c into a feature of pre-activation h > 0 that is `ReLU(h) - ReLU(h - c)`: what the feature loses where
    that source alone is taken away. Inhibition is left as it is (Dunefsky et al. 2024, zero-ablation attribution).
    """
    return torch.minimum(edges, activations)


def texts(rows: Rows, numbers: Iterable[int]) -> Iterator[Tensor]:
    """Token ids int64 [T] of each text of these rows."""
    for number in numbers:
        batch = rows.batch([number])
        tokens_T = batch.tokens_BT[0]
        if batch.positions_BT is None:
            yield tokens_T
        else:
            begins = (batch.positions_BT[0] == 0).nonzero()[1:, 0].tolist()
            yield from tokens_T.tensor_split(begins)


@torch.inference_mode()
def mean_edges(
    model: Model,
    coders: Mapping[int, Coder],
    rows: Rows,
    layer: int,
    feature: int,
    *,
    tokens: int,
    firings: int,
    cap: bool = False,
    top: int = 50,
    dtype: torch.dtype,
    report: Report,
) -> MeanEdgesDocument:
    """Over rows that hold `tokens`, until so many `firings`.

    Raises InvalidSpec for a feature that does not exist or is active on none of the tokens; StopRequested between
    texts.
    """
    if layer not in coders or not 0 <= feature < len(coders[layer].W_enc):
        raise InvalidSpec(
            f"no coder has a feature {feature} at layer {layer}",
            where="/spec/feature" if layer in coders else "/spec/layer",
            expected=f"layers {', '.join(map(str, sorted(coders)))}",
        )
    if not any(coder.W_later for coder in coders.values()):  # those above have no part in it
        coders = {at: coder for at, coder in coders.items() if at <= layer}
    found = _Sums(model, coders, layer, feature, cap)
    chosen = rows.spread(tokens)
    read = 0
    for tokens_T in texts(rows, chosen):
        if report.stop_requested():
            raise StopRequested
        if found.firings >= firings:
            break
        read += len(tokens_T)
        if len(tokens_T) > 1:
            found.add(tokens_T, dtype)
        report.progress("mean edges", read, len(chosen) * rows.context, "tokens")
    if not found.firings:
        raise InvalidSpec(
            f"feature {feature} of layer {layer} is active on none of {found.tokens} tokens",
            where="/spec/feature",
            expected="a feature that is active there",
            hint="read more tokens; the evaluation of the coders tells how many of their features are dead",
        )
    return found.means(top)


def strongest(document: MeanEdgesDocument, top: int) -> MeanEdges:
    """The first `top` sources and tokens."""
    fields = document.model_dump(exclude={"format"})
    fields |= {name: fields[name][:top] for name in ("sources", "token_sources")}
    return MeanEdges.model_validate(fields)


class _Sums:
    """Of edges into one feature, by source, float64 on the CPU."""

    def __init__(self, model: Model, coders: Mapping[int, Coder], layer: int, feature: int, cap: bool) -> None:
        self._model, self._coders, self._layer, self._feature, self._cap = model, coders, layer, feature, cap
        self.firings = self.tokens = 0
        self._activation = self._value = 0.0
        self._below = [at for at in coders if at < layer]

        def zeros() -> dict[int, Tensor]:
            return {at: torch.zeros(len(coders[at].W_enc), dtype=torch.float64) for at in self._below}

        self._edges, self._active, self._direct = zeros(), zeros(), zeros()
        self._tokens_V = torch.zeros(model.vocab_size, dtype=torch.float64)
        self._parts: dict[tuple[NodeKind, int], float] = {}

    def add(self, tokens_T: Tensor, dtype: torch.dtype) -> None:
        self.tokens += len(tokens_T) - 1
        if not self._fires(tokens_T):
            return
        network = FrozenNetwork(self._model, self._coders, tokens_T, max_logits=1, desired_logit_prob=1.0, dtype=dtype)
        nodes = network.nodes
        here = nodes.where(NodeKind.FEATURE) & (nodes.layer == self._layer) & (nodes.feature == self._feature)
        targets = here.nonzero()[:, 0]
        self.firings += len(targets)
        for tile in tiles(network, targets):
            self._add_edges(network, sweep(network, tile))

    def _fires(self, tokens_T: Tensor) -> bool:
        """Past position 0. Most features are silent on most texts, and to freeze a network takes all of its layers."""
        place, coder = (self._layer, "mlp.in"), self._coders[self._layer]
        x_TD = hook_activations(self._model, tokens_T[None], [place])[place][0]
        ids_TS, z_TS = coder.encode(x_TD.to(coder.W_enc.device, coder.W_enc.dtype))
        return bool(((ids_TS == self._feature) & (z_TS > 0))[1:].any())

    def _add_edges(self, network: FrozenNetwork, rows: EdgeRows) -> None:
        nodes = network.nodes
        activations_R = nodes.value[rows.targets].double()
        self._activation += float(activations_R.sum())
        self._value += float(rows.values.sum())

        row_E = torch.arange(len(rows.targets)).repeat_interleave(rows.offsets.diff())
        weights_E = rows.weights.double()
        if self._cap:
            weights_E = capped(weights_E, activations_R[row_E])
        sources = rows.sources.long()
        kind_E, layer_E, feature_E = nodes.kind[sources], nodes.layer[sources], nodes.feature[sources].long()
        for kind in NodeKind:
            for at in {*layer_E[kind_E == kind].tolist()}:
                whole = float(weights_E[(kind_E == kind) & (layer_E == at)].sum())
                self._parts[kind, at] = self._parts.get((kind, at), 0.0) + whole
        of_token = kind_E == NodeKind.TOKEN
        self._tokens_V.index_add_(0, nodes.token_id[sources[of_token]].long(), weights_E[of_token])
        positions = nodes.position[rows.targets].long()
        scale_R = network.seen.layers[self._layer].mlp_scale_T1.cpu()[positions, 0].double()
        for at in self._below:
            of_layer = (kind_E == NodeKind.FEATURE) & (layer_E == at)
            ids = feature_E[of_layer]
            self._edges[at].index_add_(0, ids, weights_E[of_layer])
            n_features = len(self._active[at])
            pairs = torch.unique(row_E[of_layer] * n_features + ids)  # at several positions it contributes once
            self._active[at] += torch.bincount(pairs % n_features, minlength=n_features)
            replaced = network.layers[at]
            z_RS = replaced.z_TS.cpu()[positions].double() * scale_R[:, None]
            self._direct[at].index_add_(0, replaced.ids_TS.cpu()[positions].flatten(), z_RS.flatten())

    def means(self, top: int) -> MeanEdgesDocument:
        sources = []
        f_ND = reading(self._model, self._coders[self._layer], [self._feature])
        for at in self._below:
            virtual_F = pullback(f_ND, written_below(self._coders[at], self._layer).to(f_ND))[0].double().cpu()
            strongest = self._edges[at].abs().topk(min(top, len(virtual_F))).indices
            columns = (self._edges[at], self._direct[at] * virtual_F, self._active[at])
            sources += [
                MeanSource(layer=at, feature=id, mean=mean, direct=direct, share=share)
                for id, mean, direct, share in zip(
                    strongest.tolist(),
                    *((column[strongest] / self.firings).tolist() for column in columns),
                    strict=True,
                )
                if mean
            ]
        tokens_V = self._tokens_V / self.firings
        likely = tokens_V.abs().topk(min(top, len(tokens_V))).indices.tolist()
        return MeanEdgesDocument(
            layer=self._layer,
            feature=self._feature,
            tokens=self.tokens,
            firings=self.firings,
            mean_activation=self._activation / self.firings,
            mean_value=self._value / self.firings,
            capped=self._cap,
            sources=sorted(sources, key=lambda each: -abs(each.mean))[:top],
            token_sources=[
                MeanToken(token=text_of(self._model, [id]), token_id=id, mean=float(tokens_V[id]))
                for id in likely
                if tokens_V[id]
            ],
            parts=[
                MeanPart(type=NODE_TYPES[kind], layer=at, mean=whole / self.firings)
                for (kind, at), whole in sorted(self._parts.items())
            ],
        )

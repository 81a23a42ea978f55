"""All that the weights alone say of one feature, as a document; `clew.circuits.connections` computes it."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from clew.circuits.attribution import text_of
from clew.circuits.connections import (
    Strongest,
    logit_effect,
    ov_norms,
    pullback,
    readers,
    reading,
    strongest,
    through_head,
    vocabulary,
    written_below,
    written_through_head,
)
from clew.circuits.frozen import check_coders
from clew.circuits.replacement import Coder, require_feature
from clew.models import Model
from clew.reporting import Report, StopRequested
from clew_spec.connections import (
    ConnectionsDocument,
    ConnectionsSummary,
    FeatureWeight,
    HeadWeight,
    Side,
    ThroughHead,
    Tokens,
    TokenWeight,
    head_name,
)
from clew_spec.errors import InvalidSpec

SHORT = 10
"""Features of each side, heads, and tokens of each end in a summary."""


@torch.inference_mode()
def feature_connections(
    model: Model,
    coders: Mapping[int, Coder],
    layer: int,
    feature: int,
    *,
    upstream: int,
    downstream: int,
    heads: Sequence[tuple[int, int]] | None = None,
    strongest_heads: int,
    tokens: int,
    report: Report,
) -> ConnectionsDocument:
    """What writes to the feature and what reads it: directly, and through `heads`, (layer, head), or the
    `strongest_heads` of each side where none are named.

    Raises InvalidSpec for coders that do not fit the model, a feature that does not exist, a head that neither carries
    to the feature nor from it; and StopRequested between heads.
    """
    check_coders(model, coders)
    found = _Feature(model, coders, layer, feature, upstream, downstream, tokens)
    norms_LH = ov_norms(model)
    every = found.heads(norms_LH)
    through = []
    chosen = _named(every, heads) if heads is not None else _strongest_of_each_side(every, strongest_heads)
    for done, head in enumerate(chosen):
        if report.stop_requested():
            raise StopRequested
        report.progress("connections", done, len(chosen), "heads")
        through.append(found.through(head))
    carried: list[list[float | None]] = [[None] * norms_LH.shape[1] for _ in norms_LH]
    for head in every:
        carried[head.layer][head.head] = head.norm
    return ConnectionsDocument(
        layer=layer,
        feature=feature,
        upstream=list(found.writers()),
        downstream=list(found.readers()),
        heads=every,
        reads=found.reads(),
        promotes=found.promotes(),
        through=through,
        ov_norms=norms_LH.tolist(),
        carried=carried,
    )


def summary(document: ConnectionsDocument) -> ConnectionsSummary:
    """The `SHORT` strongest of everything."""
    return ConnectionsSummary(
        layer=document.layer,
        feature=document.feature,
        upstream=_first(document.upstream),
        downstream=_first(document.downstream),
        heads=_strongest_of_each_side(document.heads, SHORT),
        reads=_ends(document.reads),
        promotes=_ends(document.promotes),
    )


class _Feature:
    """One feature: f, what it reads in the residual stream, and w, what it writes."""

    def __init__(
        self,
        model: Model,
        coders: Mapping[int, Coder],
        layer: int,
        feature: int,
        upstream: int,
        downstream: int,
        tokens: int,
    ) -> None:
        require_feature(coders, layer, feature, "/spec")
        self._coder = coders[layer]
        self._model, self._layer, self._feature = model, layer, feature
        self._coders = [coder for _, coder in sorted(coders.items())]
        self._upstream, self._downstream, self._tokens = upstream, downstream, tokens
        self._f_1D = reading(model, self._coder, [feature])
        self._vocabulary_VD = vocabulary(model)

    def writers(self) -> Iterator[FeatureWeight]:
        return self._writers(self._f_1D, self._layer)

    def readers(self) -> Iterator[FeatureWeight]:
        for target in self._coders:
            if target.layer > self._layer:
                yield from _told(target.layer, readers(self._model, target, self._w(target.layer), self._downstream))

    def reads(self) -> Tokens:
        return self._both_ends(pullback(self._f_1D, self._vocabulary_VD))

    def promotes(self) -> Tokens:
        return self._both_ends(logit_effect(self._model, self._w(self._model.n_layers)))

    def heads(self, norms_LH: Tensor) -> list[HeadWeight]:
        """All that carry to the feature or from it, by norm."""
        heads = []
        for layer in range(self._model.n_layers):
            side = self._side(layer)
            if side is None:
                continue
            whole = self._f_1D if side == "upstream" else self._w(layer)
            for head, own in enumerate(norms_LH[layer].tolist()):
                norm = self._carried(side, layer, head).norm().item()
                most = own * whole.norm().item()
                heads.append(
                    HeadWeight(layer=layer, head=head, side=side, norm=norm, share=norm / most if most else 0.0)
                )
        return sorted(heads, key=lambda each: -each.norm)

    def through(self, head: HeadWeight) -> ThroughHead:
        carried_1D = self._carried(head.side, head.layer, head.head)
        if head.side == "upstream":
            features = list(self._writers(carried_1D, head.layer))
            tokens = self._both_ends(pullback(carried_1D, self._vocabulary_VD))
        else:
            features = [
                each
                for target in self._coders
                if target.layer >= head.layer + self._model.anatomy.blocks[head.layer].parallel
                for each in _told(target.layer, readers(self._model, target, carried_1D, self._downstream))
            ]
            tokens = self._both_ends(logit_effect(self._model, carried_1D))
        return ThroughHead(**dict(head), features=features, tokens=tokens)

    def _side(self, layer: int) -> Side | None:
        """Attention comes before the MLP of its block; in a parallel block the MLP does not read it."""
        if layer > self._layer:
            return "downstream"
        return None if layer == self._layer and self._model.anatomy.blocks[layer].parallel else "upstream"

    def _carried(self, side: Side, layer: int, head: int) -> Tensor:
        """[1, D]"""
        if side == "upstream":
            return through_head(self._model, self._f_1D, layer, head)
        return written_through_head(self._model, self._w(layer), layer, head)

    def _w(self, layer: int) -> Tensor:
        """[1, D]: what the feature writes in all to layers below one."""
        return written_below(self._coder, layer, [self._feature]).to(self._model.device)

    def _writers(self, f_1D: Tensor, layer: int) -> Iterator[FeatureWeight]:
        """Features that write below `layer` what f reads there."""
        for source in self._coders:
            if source.layer < layer:
                yield from _told(source.layer, strongest(f_1D, written_below(source, layer), self._upstream))

    def _both_ends(self, values_1V: Tensor) -> Tokens:
        k = min(self._tokens, values_1V.shape[1])
        highest, lowest = values_1V[0].topk(k), values_1V[0].topk(k, largest=False)
        return Tokens(highest=self._weights(*highest), lowest=self._weights(*lowest))

    def _weights(self, values_K: Tensor, ids_K: Tensor) -> list[TokenWeight]:
        return [
            TokenWeight(token_id=id, token=text_of(self._model, [id]), weight=weight)
            for id, weight in zip(ids_K.tolist(), values_K.tolist(), strict=True)
        ]


def _told(layer: int, found: Strongest) -> Iterator[FeatureWeight]:
    for feature, weight in zip(found.indices_NK[0].tolist(), found.values_NK[0].tolist(), strict=True):
        yield FeatureWeight(layer=layer, feature=feature, weight=weight)


def _named(every: Sequence[HeadWeight], heads: Sequence[tuple[int, int]]) -> list[HeadWeight]:
    found = {(each.layer, each.head): each for each in every}
    for index, head in enumerate(heads):
        if head not in found:
            raise InvalidSpec(
                f"{head_name(*head)} carries nothing to the feature, nor from it",
                where=f"/spec/heads/{index}",
                expected="a head of the model that is not in the feature's own block where MLP and attention are"
                " parallel",
            )
    return [found[head] for head in heads]


def _strongest_of_each_side(heads: Sequence[HeadWeight], k: int) -> list[HeadWeight]:
    sides: tuple[Side, Side] = ("upstream", "downstream")
    return [head for side in sides for head in [each for each in heads if each.side == side][:k]]


def _first(features: Sequence[FeatureWeight]) -> list[FeatureWeight]:
    return sorted(features, key=lambda each: -abs(each.weight))[:SHORT]


def _ends(tokens: Tokens) -> Tokens:
    return Tokens(highest=tokens.highest[:SHORT], lowest=tokens.lowest[:SHORT])

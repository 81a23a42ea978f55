"""Means over data are those of the single edges, and add up as they do."""

from contextlib import suppress
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_splits import network_of
from tests.clew.families import family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens
from torch import Tensor

from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NodeKind
from clew.circuits.mean_edges import capped, mean_edges, texts
from clew.circuits.splits import split_edge
from clew.circuits.sweep import sweep
from clew.data import Rows
from clew.models import Model
from clew.reporting import Silent
from clew_spec.errors import InvalidSpec
from clew_spec.mean_edges import MeanEdges

pytestmark = pytest.mark.science

CONTEXT, N_ROWS = 8, 3
TOKENS_NT = toy_tokens(CONTEXT * N_ROWS).view(N_ROWS, CONTEXT)
ONE_TEXT_A_ROW = Rows((TOKENS_NT,), (torch.zeros(N_ROWS, CONTEXT),))
SEGMENTS_NT = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2], [0] * 8, [0, 0, 1, 1, 1, 1, 1, 1]])
DOCUMENTS = Rows((TOKENS_NT,), (SEGMENTS_NT,), "document")


def found_of(model: Model, coders: dict[int, ToyCoder], feature: int, rows: Rows, **options: Any) -> MeanEdges:
    given: dict[str, Any] = {"tokens": 10**6, "firings": 10**6, "dtype": torch.float64, "report": Silent()} | options
    return mean_edges(model, coders, rows, 2, feature, top=10**6, **given)


def often(model: Model, coders: dict[int, ToyCoder]) -> int:
    """The feature of layer 2 that fires most."""
    found = [network_of(model, coders, tokens_T=tokens_T).layers[2] for tokens_T in TOKENS_NT]
    active = torch.cat([layer.ids_TS[layer.z_TS > 0] for layer in found])
    return int(torch.bincount(active).argmax())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "neox-parallel"])
@pytest.mark.parametrize("rows", [ONE_TEXT_A_ROW, DOCUMENTS], ids=["rows", "documents"])
def test_means_are_those_of_single_edges_and_add_up(family: str, rows: Rows) -> None:
    model = family_model(family)
    coders = toy_coders(model)
    feature = often(model, coders)
    edges: dict[tuple[int, int], float] = {}
    directs: dict[tuple[int, int], float] = {}
    firings, value, cut = 0, 0.0, 0.0
    every = list(texts(rows, range(N_ROWS)))
    assert torch.cat(every).equal(TOKENS_NT.flatten())
    for tokens_T in every:
        if len(tokens_T) == 1:
            continue
        network = network_of(model, coders, tokens_T=tokens_T)
        nodes = network.nodes
        here = nodes.where(NodeKind.FEATURE) & (nodes.layer == 2) & (nodes.feature == feature)
        for target in here.nonzero()[:, 0].tolist():
            firings += 1
            found = sweep(network, torch.tensor([target]))
            value += float(found.values)
            cut += float(found.weights.clamp(max=nodes.value[target].item()).sum())
            for source, weight in zip(found.sources.tolist(), found.weights.tolist(), strict=True):
                if nodes.kind[source] == NodeKind.FEATURE:
                    key = int(nodes.layer[source]), int(nodes.feature[source])
                    edges[key] = edges.get(key, 0.0) + weight
                    directs[key] = directs.get(key, 0.0) + split_edge(network, source, target).direct
    assert firings > 3
    told = found_of(model, coders, feature, rows)
    assert (told.firings, told.tokens) == (firings, sum(len(each) - 1 for each in every))
    assert told.mean_value == pytest.approx(value / firings, abs=1e-10)
    assert sum(part.mean for part in told.parts) == pytest.approx(told.mean_value, abs=1e-10)
    assert {(each.layer, each.feature) for each in told.sources} == set(edges)
    for each in told.sources:
        assert each.mean == pytest.approx(edges[each.layer, each.feature] / firings, abs=1e-10)
        assert each.direct == pytest.approx(directs[each.layer, each.feature] / firings, abs=1e-10)
        assert 0 < each.share <= 1
    assert max(abs(each.direct) for each in told.sources) > 1e-3
    tokens = sum(part.mean for part in told.parts if part.type == "token")
    assert sum(each.mean for each in told.token_sources) == pytest.approx(tokens, abs=1e-10)
    with_cap = found_of(model, coders, feature, rows, cap=True)
    assert sum(part.mean for part in with_cap.parts) == pytest.approx(cut / firings, abs=1e-10)


def test_a_capped_edge_is_what_the_feature_loses_without_its_source() -> None:
    edges = torch.tensor([3.0, 0.5, -2.0, 2.0]).double()
    activations = torch.tensor([2.0, 2.0, 0.25, 2.0]).double()

    def lost(h: Tensor, c: Tensor) -> Tensor:
        return h.relu() - (h - c).relu()

    assert capped(edges, activations).equal(lost(activations, edges))


def test_few_firings_are_enough_and_none_are_refused() -> None:
    model = family_model("llama")
    coders = toy_coders(model)
    feature = often(model, coders)
    few = found_of(model, coders, feature, ONE_TEXT_A_ROW, firings=1)
    assert few.tokens < found_of(model, coders, feature, ONE_TEXT_A_ROW).tokens
    assert few.firings >= 1
    coders[2].b_enc[3] = -100.0
    with pytest.raises(InvalidSpec, match="active on none of 21 tokens"):
        found_of(model, coders, 3, ONE_TEXT_A_ROW)
    with pytest.raises(InvalidSpec, match="no coder has a feature 40"):
        found_of(model, coders, 40, ONE_TEXT_A_ROW)


def test_a_network_is_frozen_only_where_the_feature_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("llama")
    coders = toy_coders(model)
    frozen: list[int] = []

    class Counted(FrozenNetwork):
        def __init__(self, model: Model, coders: Any, tokens_T: Tensor, **options: Any) -> None:
            super().__init__(model, coders, tokens_T, **options)
            nodes = self.nodes
            here = nodes.where(NodeKind.FEATURE) & (nodes.layer == 2) & (nodes.feature == feature)
            frozen.append(int(here.sum()))

    monkeypatch.setattr("clew.circuits.mean_edges.FrozenNetwork", Counted)
    told = []
    for feature in range(len(coders[2].W_enc)):
        with suppress(InvalidSpec):
            told.append(found_of(model, coders, feature, ONE_TEXT_A_ROW).firings)
    assert all(frozen)
    assert sum(frozen) == sum(told)
    assert len(frozen) < N_ROWS * len(coders[2].W_enc), "some are silent on some texts"


def test_a_cross_layer_transcoder_is_taken_whole() -> None:
    model = family_model("llama")
    coders = toy_coders(model, cross=True)
    told = found_of(model, coders, often(model, coders), ONE_TEXT_A_ROW)
    assert sum(part.mean for part in told.parts) == pytest.approx(told.mean_value, abs=1e-10)
    assert {each.layer for each in told.sources} == {0, 1}

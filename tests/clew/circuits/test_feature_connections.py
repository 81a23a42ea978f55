"""A feature's document, against virtual weights computed the other way round, and on a circuit that is known."""

from typing import Any

import pytest
import torch
from tests.clew.circuits import planted as p
from tests.clew.families import FAMILIES, family_model
from tests.clew.toys import ToyCoder, toy_coder, toy_coders, toy_model

from clew.circuits.connections import (
    de_embedding,
    ov_norms,
    promoted_tokens,
    pullback,
    reading,
    through_head,
    virtual_weights,
    written_below,
    written_through_head,
)
from clew.circuits.feature_connections import SHORT, feature_connections, summary
from clew.models import Model
from clew.reporting import Silent, StopRequested
from clew_spec.connections import ConnectionsDocument, FeatureWeight
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science

FEATURE = 5
Weights = dict[tuple[int, int], float]


def found(model: Model, coders: dict[int, ToyCoder], layer: int, feature: int = FEATURE, **asked: Any) -> Any:
    everything: dict[str, Any] = {
        "upstream": 1000,
        "downstream": 1000,
        "tokens": 1000,
        "strongest_heads": 100,
        "report": Silent(),
    }
    return feature_connections(model, coders, layer, feature, **(everything | asked))


def weights(features: list[FeatureWeight]) -> Weights:
    return {(each.layer, each.feature): each.weight for each in features}


def expected(model: Model, coders: dict[int, ToyCoder], layer: int, route: list[tuple[int, int]]) -> Weights:
    """By `virtual_weights`, which goes from each reader down: to the feature and, of each reader above, from it."""
    told: Weights = {}
    for low, high in ((low, layer) for low in range(layer)):
        try:
            top = virtual_weights(model, coders[low], coders[high], k=1000, features=[FEATURE], through=route)
        except InvalidSpec:
            continue
        told |= {(low, i): v for i, v in zip(top.indices_NK[0].tolist(), top.values_NK[0].tolist(), strict=True)}
    for high in range(layer + 1, model.n_layers):
        try:
            top = virtual_weights(model, coders[layer], coders[high], k=1000, through=route)
        except InvalidSpec:
            continue
        here = top.indices_NK == FEATURE
        told |= {(high, target): top.values_NK[target][here[target]].item() for target in range(len(here))}
    return told


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_the_virtual_one_seen_from_either_side(family: str, cross: bool) -> None:
    model = family_model(family)
    coders = toy_coders(model, cross=cross)
    for layer in range(model.n_layers):
        document: ConnectionsDocument = found(model, coders, layer)
        direct = weights([*document.upstream, *document.downstream])
        assert direct == pytest.approx(expected(model, coders, layer, []), abs=1e-11)
        for head in document.through:
            through = expected(model, coders, layer, [(head.layer, head.head)])
            assert weights(head.features) == pytest.approx(through, abs=1e-11), head
        sides = {(head.layer, head.side) for head in document.through}
        own = set() if model.anatomy.blocks[layer].parallel else {(layer, "upstream")}
        above = {(each, "downstream") for each in range(layer + 1, model.n_layers)}
        assert sides == {(each, "upstream") for each in range(layer)} | own | above


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_head_writes_is_the_adjoint_of_what_is_read_through_it(family: str) -> None:
    model = family_model(family)
    coders = toy_coders(model)
    f_ND, w_ND = reading(model, coders[2]), coders[0].W_dec
    for head in range(4):
        down_NF = pullback(through_head(model, f_ND, 1, head), w_ND)
        up_NF = pullback(f_ND, written_through_head(model, w_ND, 1, head))
        torch.testing.assert_close(up_NF, down_NF, atol=1e-11, rtol=0)


def test_tokens_norms_and_shares_are_those_of_the_feature() -> None:
    model = family_model("llama")
    coders = toy_coders(model)
    document: ConnectionsDocument = found(model, coders, 1, tokens=4)
    reads = de_embedding(model, reading(model, coders[1], [FEATURE]), 1000)
    by_token = dict(zip(reads.indices_NK[0].tolist(), reads.values_NK[0].tolist(), strict=True))
    assert [each.weight for each in document.reads.highest] == sorted(by_token.values(), reverse=True)[:4]
    assert [each.weight for each in document.reads.lowest] == sorted(by_token.values())[:4]
    assert all(by_token[each.token_id] == each.weight for each in document.reads.highest)
    promoted = promoted_tokens(model, coders[1], 1000, [FEATURE]).values_NK[0]
    assert [each.weight for each in document.promotes.lowest] == pytest.approx(sorted(promoted.tolist())[:4])
    norms_LH = ov_norms(model)
    assert document.ov_norms == norms_LH.tolist()
    f_1D = reading(model, coders[1], [FEATURE])
    for head in document.heads:
        assert document.carried[head.layer][head.head] == head.norm
        whole = f_1D if head.side == "upstream" else written_below(coders[1], head.layer, [FEATURE])
        assert head.share == pytest.approx(head.norm / (norms_LH[head.layer, head.head] * whole.norm()).item())
        assert 0 < head.share <= 1
    assert [each.norm for each in document.heads] == sorted((each.norm for each in document.heads), reverse=True)


@pytest.mark.parametrize("kind", p.KINDS)
def test_a_planted_circuit_is_seen_from_its_middle_and_its_end(kind: str) -> None:
    model, coders = p.planted(kind)
    g = p.GAIN

    def strong(features: list[FeatureWeight]) -> Weights:
        return {place: weight for place, weight in weights(features).items() if abs(weight) > 1e-10}

    joins: ConnectionsDocument = found(model, coders, *p.JOINS, strongest_heads=1)
    assert strong(joins.upstream) == {p.SEES_B: pytest.approx(-g * p.INHIBITION)}, "what inhibits is told with its sign"
    assert joins.downstream == []
    (head,) = joins.through
    assert (head.layer, head.head, head.side) == (*p.HEAD, "upstream")
    assert strong(head.features) == {p.TWO: pytest.approx(g * g * p.ATTENTION)}
    assert (joins.promotes.highest[0].token_id, joins.promotes.highest[0].token) == (p.ANSWER, f"<{p.ANSWER}>")

    two: ConnectionsDocument = found(model, coders, *p.TWO, heads=[p.HEAD])
    assert strong(two.upstream) == {p.SEES_A: pytest.approx(g)}
    assert strong(two.downstream) == {}
    (head,) = two.through
    assert head.side == "downstream"
    assert strong(head.features) == {p.JOINS: pytest.approx(g * g * p.ATTENTION)}
    assert found(model, coders, *p.SEES_A).reads.highest[0].token_id == p.A


def test_each_layer_tells_its_strongest_and_a_summary_the_strongest_of_all() -> None:
    model = toy_model()
    coders = toy_coders(model)
    whole: ConnectionsDocument = found(model, coders, 1)
    document: ConnectionsDocument = found(model, coders, 1, upstream=3, downstream=2, tokens=5, strongest_heads=2)
    assert [abs(each.weight) for each in document.upstream] == sorted(map(abs, weights(whole.upstream).values()))[
        :-4:-1
    ]
    assert (len(document.downstream), len(document.reads.lowest), len(document.through)) == (2, 5, 4)
    assert len(document.heads) == 12
    short = summary(whole)
    assert {abs(each.weight) for each in short.upstream} == {
        abs(each.weight) for each in sorted(whole.upstream, key=lambda each: -abs(each.weight))[:SHORT]
    }
    assert len(document.rows()) == 3 + 2 + 4 * 5 + sum(len(head.features) + 10 for head in document.through)
    assert {(row["side"], row["through"]) for row in document.rows() if row["through"]} == {
        (head.side, f"L{head.layer}H{head.head}") for head in document.through
    }


def test_what_does_not_exist_is_refused_with_where_it_was_asked_for() -> None:
    model = family_model("neox-parallel")
    coders = toy_coders(model, [0, 1])
    for layer, feature, asked, where in (
        (2, 0, {}, "/spec/layer"),
        (1, 40, {}, "/spec/feature"),
        (1, 0, {"heads": [(0, 0), (1, 0)]}, "/spec/heads/1"),
    ):
        with pytest.raises(InvalidSpec) as refused:
            found(model, coders, layer, feature, **asked)
        assert refused.value.where == where
    sae = toy_coder(model, 1)
    sae.hooks = ("mlp.out", "mlp.out")
    with pytest.raises(InvalidSpec, match="reads mlp"):
        found(model, {1: sae}, 1)

    class Told(Silent):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(StopRequested):
        found(model, coders, 1, report=Told())

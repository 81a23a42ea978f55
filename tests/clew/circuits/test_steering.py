"""Steering tells what the interventions below it do, and correlations are those of the textbook."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.circuits.test_interventions import TOKENS_T, active, case_of

from clew.circuits.agreement import agreement, pearson, spearman
from clew.circuits.interventions import Edit, compare, continuation, intervene
from clew.circuits.steering import edit_of, steer
from clew_spec.errors import InvalidSpec
from clew_spec.steering import FeatureEdit

pytestmark = pytest.mark.science


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_frozen_what_is_predicted_is_what_is_measured(family: str) -> None:
    model, coders, graph = case_of(family)
    position, feature, z = active(graph, 0, 3)
    edit = Edit(0, feature, slice(position, None), "scale", 3.0)
    found = steer(model, coders, TOKENS_T, [edit], frozen=True, graph=graph)
    told = found.prediction
    assert told is not None
    assert told.agreement.pearson == pytest.approx(1, abs=1e-9)
    assert told.agreement.same_sign == 1
    assert {each.type for each in told.movements} == {"logit", "feature"}
    for each in told.movements:
        assert each.measured == pytest.approx(each.predicted, abs=1e-10)
    first = found.activations[0]
    assert (first.layer, first.feature, first.position) == (0, feature, position)
    assert (first.before, first.after) == pytest.approx((z, 3 * z))
    assert [each.position for each in found.activations] == list(range(position, len(TOKENS_T)))


def test_free_it_tells_what_the_model_does() -> None:
    model, coders, graph = case_of("llama")
    (p, f, _), (q, g, _) = active(graph, 0), active(graph, 2)
    edits = [Edit(0, f, p, "set", 5.0), Edit(2, g, slice(q, None), "add", 1.0), Edit(2, g, q, "scale", 2.0)]
    found = steer(model, coders, TOKENS_T, edits[:1] + edits[2:], n_tokens=3, top=5, graph=graph)
    effect = intervene(model, coders, TOKENS_T, edits[:1] + edits[2:], frozen=False)
    before_V, after_V = (state.logits_TV[-1].softmax(-1) for state in (effect.before, effect.after))
    assert len(found.next_tokens) == 5
    for each in found.next_tokens:
        assert each.before == pytest.approx(before_V[each.token_id].item(), rel=1e-6)
        assert each.after == pytest.approx(after_V[each.token_id].item(), rel=1e-6)
    assert found.kl == pytest.approx((before_V * (before_V / after_V).log()).sum().item(), rel=1e-5)
    assert found.continued_after == continuation(model, coders, TOKENS_T, edits[:1] + edits[2:], 3)
    assert found.continued_before == continuation(model, coders, TOKENS_T, [], 3)
    z = effect.after.activation(coders[2], g)[q].item()
    assert z != pytest.approx(effect.before.activation(coders[2], g)[q].item(), abs=1e-6)
    assert found.activations[-1].after == pytest.approx(2 * z)
    compared = compare(model, coders, graph, edits[:1] + edits[2:], frozen=False)
    assert found.prediction is not None
    assert found.prediction.agreement.pearson == pytest.approx(compared.correlation)
    # the order of edits matters: (z + 1) * 2 where both reach, z + 1 behind
    after = {each.position: each.after for each in steer(model, coders, TOKENS_T, edits[1:]).activations}
    clean_T = effect.before.activation(coders[2], g)
    assert after[q] == pytest.approx(2 * (clean_T[q].item() + 1))
    assert all(after[t] == pytest.approx(clean_T[t].item() + 1) for t in range(q + 1, len(TOKENS_T)))


def test_nothing_is_predicted_of_what_the_graph_does_not_know() -> None:
    model, coders, graph = case_of("llama")
    _, feature, _ = active(graph, 1)
    silent = [
        t
        for t in range(1, 7)
        if intervene(model, coders, TOKENS_T, [], frozen=True).before.activation(coders[1], feature)[t] == 0
    ]
    assert silent
    everywhere = slice(1, None)
    steer(model, coders, TOKENS_T, [Edit(1, feature, everywhere, "scale", 2.0)], graph=graph)
    with pytest.raises(InvalidSpec, match=f"not active at position {silent[0]}"):
        steer(model, coders, TOKENS_T, [Edit(1, feature, everywhere, "set", 2.0)], graph=graph)


def test_a_spec_is_the_edit_it_says() -> None:
    spec = FeatureEdit(layer=1, feature=2, start=3, stop=5, operation="scale", value=0.5)
    assert edit_of(spec) == Edit(1, 2, slice(3, 5), "scale", 0.5)
    assert edit_of(FeatureEdit(layer=1, feature=2, operation="ablate")) == Edit(1, 2, slice(1, None), "ablate", 0.0)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
def test_ranks_count_what_is_smaller_and_half_of_what_is_equal(pairs: list[tuple[int, int]]) -> None:
    x_N, y_N = torch.tensor(pairs, dtype=torch.float64).T

    def ranks(values: torch.Tensor) -> torch.Tensor:
        return (values[:, None] > values).sum(1) + (values[:, None] == values).sum(1) / 2 + 0.5

    expected = pearson(ranks(x_N).double(), ranks(y_N).double())
    assert spearman(x_N, y_N) == (None if expected is None else pytest.approx(expected))
    # any monotone map keeps it
    assert spearman(x_N**3, y_N.exp()) == (None if expected is None else pytest.approx(expected))


def test_correlations_of_too_little_are_none() -> None:
    one = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    told = agreement(one, torch.tensor([5.0, -1.0, 5.0], dtype=torch.float64))
    assert (told.targets, told.pearson, told.spearman, told.same_sign) == (1, None, None, 0.0)
    assert agreement(torch.zeros(3), one).same_sign is None
    assert math.isclose(pearson(one, 3 * one - 1) or 0, 1)

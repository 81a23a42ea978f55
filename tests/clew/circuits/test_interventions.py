"""What an edit does: exactly the graph's edges when frozen, exactly the edited model when free."""

from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.families import FAMILIES, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens

from clew.circuits import verification
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.interventions import Edit, compare, continuation, intervene
from clew.models import Model
from clew_spec.errors import InvalidSpec

TOKENS_T = toy_tokens(7)
Case = tuple[Model, dict[int, ToyCoder], Graph]
_CASES: dict[str, Case] = {}


def case_of(family: str) -> Case:
    if family not in _CASES:
        model = family_model(family)
        coders = toy_coders(model)
        _CASES[family] = model, coders, graph_of(model, coders, TOKENS_T)
    return _CASES[family]


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def active(graph: Graph, layer: int, nth: int = 0) -> tuple[int, int, float]:
    """(position, feature, activation) of an active feature."""
    nodes = graph.nodes
    node = (nodes.where(NodeKind.FEATURE) & (nodes.layer == layer)).nonzero()[nth, 0]
    return int(nodes.position[node]), int(nodes.feature[node]), float(nodes.value[node])


def test_frozen_the_graph_predicts_every_movement_to_rounding(case: Case) -> None:
    model, coders, graph = case
    (p, f, _), (q, g, _), (r, h, _) = active(graph, 0), active(graph, 0, 9), active(graph, 1, 4)
    edits = [
        Edit(0, f, p, "scale", 3.0),
        Edit(0, g, q, "ablate"),
        Edit(1, h, r, "set", 2.5),
        Edit(1, h, r, "add", -0.75),
    ]
    found = compare(model, coders, graph, edits, frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)
    assert found.targets.equal(graph.edges.targets)
    assert found.predicted.abs().max() > 0.1
    assert found.correlation == pytest.approx(1, abs=1e-9)
    free = compare(model, coders, graph, edits, frozen=False)
    torch.testing.assert_close(free.predicted, found.predicted, atol=0, rtol=0)
    assert (free.measured - found.measured).abs().max() > 1e-3


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pass_that_was_run_and_targets_by_the_handful_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    model, coders, graph = case_of("gpt2")
    position, feature, _ = active(graph, 0)
    edits = [Edit(0, feature, position, "scale", 3.0)]
    found = compare(model, coders, graph, edits, frozen=frozen)
    before = intervene(model, coders, TOKENS_T, (), frozen=frozen).before
    monkeypatch.setattr(verification, "TARGETS", 7)
    again = compare(model, coders, graph, edits, frozen=frozen, before=before)
    assert again.measured.equal(found.measured)
    assert again.measured.abs().max() > 1e-2


@pytest.mark.parametrize("frozen", [False, True])
def test_edits_that_change_nothing_change_nothing(case: Case, frozen: bool) -> None:
    model, coders, graph = case
    position, feature, z = active(graph, 1)
    with torch.inference_mode():
        clean = model.hf(input_ids=TOKENS_T[None], use_cache=False).logits[0]
    for edits in ([], [Edit(1, feature, position, "set", z)], [Edit(1, feature, position, "scale", 1.0)]):
        effect = intervene(model, coders, TOKENS_T, edits, frozen=frozen)
        torch.testing.assert_close(effect.before.logits_TV, clean, atol=1e-10, rtol=0)
        torch.testing.assert_close(effect.after.logits_TV, clean, atol=1e-10, rtol=0)


def test_a_free_edit_is_the_model_with_that_vector_added(case: Case) -> None:
    model, coders, graph = case
    position, feature, z = active(graph, 0, 5)

    def add(_module: Any, _args: Any, output: Any) -> Any:
        output = output.clone()
        output[0, position] += (4.0 - z) * coders[0].W_dec[feature]
        return output

    handle = model.anatomy.blocks[0].mlp_writer.register_forward_hook(add)
    with torch.inference_mode():
        expected = model.hf(input_ids=TOKENS_T[None], use_cache=False).logits[0]
    handle.remove()
    effect = intervene(model, coders, TOKENS_T, [Edit(0, feature, position, "set", 4.0)], frozen=False)
    # the norms of queries and keys, and softmax, round to float32
    torch.testing.assert_close(effect.after.logits_TV, expected, atol=1e-6, rtol=0)
    assert effect.after.logits_TV[:position].equal(effect.before.logits_TV[:position])
    assert (expected - effect.before.logits_TV).abs().max() > 1e-2
    ids, probabilities = zip(*effect.after.top_tokens(3), strict=True)
    assert list(ids) == expected[-1].argsort(descending=True)[:3].tolist()
    assert list(probabilities) == sorted(probabilities, reverse=True)


def test_a_downstream_edit_acts_on_what_upstream_edits_made_of_it() -> None:
    """Free, `scale` by 0 silences a feature even where an edit below has changed its activation."""
    model, coders, graph = case_of("llama")
    position, feature, _ = active(graph, 0)
    p, h, _ = active(graph, 2)
    up = Edit(0, feature, position, "scale", 5.0)
    changed = intervene(model, coders, TOKENS_T, [up], frozen=False).after
    before = intervene(model, coders, TOKENS_T, [], frozen=False).before
    z = changed.activation(coders[2], h)[p].item()
    assert z != pytest.approx(before.activation(coders[2], h)[p].item(), abs=1e-6)
    scaled = intervene(model, coders, TOKENS_T, [up, Edit(2, h, p, "scale", 0.0)], frozen=False).after
    ablated = intervene(model, coders, TOKENS_T, [up, Edit(2, h, p, "ablate")], frozen=False).after
    added = intervene(model, coders, TOKENS_T, [up, Edit(2, h, p, "add", -z)], frozen=False).after
    torch.testing.assert_close(scaled.logits_TV, ablated.logits_TV, atol=0, rtol=0)
    torch.testing.assert_close(added.logits_TV, ablated.logits_TV, atol=1e-10, rtol=0)


def test_a_slice_is_its_positions_without_the_first() -> None:
    model, coders, _ = case_of("gpt2")
    whole = intervene(model, coders, TOKENS_T, [Edit(1, 3, slice(None), "add", 2.0)], frozen=False).after
    each = [Edit(1, 3, position, "add", 2.0) for position in range(1, 7)]
    torch.testing.assert_close(
        intervene(model, coders, TOKENS_T, each, frozen=False).after.logits_TV, whole.logits_TV, atol=1e-12, rtol=0
    )
    from_end = intervene(model, coders, TOKENS_T, [Edit(1, 3, -1, "add", 2.0)], frozen=False).after
    assert from_end.logits_TV[:-1].equal(intervene(model, coders, TOKENS_T, [], frozen=False).before.logits_TV[:-1])


def test_generation_goes_on_under_an_open_slice() -> None:
    model, coders, _ = case_of("llama")
    edits = [Edit(1, 3, slice(4, None), "set", 6.0)]
    steered = continuation(model, coders, TOKENS_T, edits, 4)
    tokens_T = TOKENS_T
    for expected in steered:
        after = intervene(model, coders, tokens_T, edits, frozen=False).after
        assert after.top_tokens(1)[0][0] == expected
        tokens_T = torch.cat([tokens_T, torch.tensor([expected])])
    hf: Any = model.hf
    plain = hf.generate(TOKENS_T[None], max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert continuation(model, coders, TOKENS_T, [], 4) == plain[0, 7:].tolist()
    assert steered != plain[0, 7:].tolist()
    for moving in (-1, slice(-2, None)):
        with pytest.raises(InvalidSpec, match="counted from the end"):
            continuation(model, coders, TOKENS_T, [Edit(1, 3, moving, "ablate")], 2)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_nothing_is_generated_beyond_what_the_model_reads(family: str) -> None:
    model, coders, _ = case_of(family)
    room = model.max_context - len(TOKENS_T) + 1
    assert len(continuation(model, coders, TOKENS_T, [], room)) == room
    with pytest.raises(InvalidSpec, match="behind a prompt of 7"):
        continuation(model, coders, TOKENS_T, [], room + 1)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (Edit(1, 0, 3, "ablate"), "layer 1 has no coder"),
        (Edit(0, 40, 3, "ablate"), "no feature 40"),
        (Edit(0, -1, 3, "ablate"), "no feature -1"),
        (Edit(0, 0, 0, "ablate"), "position 0 of 7"),
        (Edit(0, 0, 7, "ablate"), "position 7 of 7"),
        (Edit(0, 0, -7, "ablate"), "position -7 of 7"),
    ],
)
def test_edits_of_what_is_not_there_are_refused(edit: Edit, match: str) -> None:
    model, _, _ = case_of("llama")
    with pytest.raises(InvalidSpec, match=match):
        intervene(model, toy_coders(model, [0]), TOKENS_T, [edit], frozen=False)


def test_nothing_is_predicted_of_a_feature_without_edges() -> None:
    model, coders, graph = case_of("llama")
    nodes = graph.nodes
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == 1) & (nodes.position == 3)
    silent = next(f for f in range(40) if f not in nodes.feature[here].tolist())
    with pytest.raises(InvalidSpec, match="is not active"):
        compare(model, coders, graph, [Edit(1, silent, 3, "set", 1.0)], frozen=True)


def test_the_model_is_left_as_it_was() -> None:
    model, coders, _ = case_of("gemma2")
    intervene(model, coders, TOKENS_T, [Edit(0, 3, 2, "add", 1.0)], frozen=True)
    assert model.hf.config._attn_implementation == "eager"
    assert not any(module._forward_hooks for module in model.hf.modules())

"""What the study adds up adds up, what it changes is what it says, and what it tries out on was never learnt from."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from studies.greater_than import page
from studies.greater_than.__main__ import study_model
from studies.greater_than.circuit import FOUND, Trained, agreeing, study_circuit
from studies.greater_than.contributions import (
    activations,
    brought_to,
    counted_mean,
    decade_effect,
    direct_effects,
    feature_effects,
    unembedders,
    varying,
)
from studies.greater_than.finding import find_places
from studies.greater_than.interventions import (
    changed,
    drawn,
    from_other_decade,
    levelled,
    moved_with,
    of_same_norm,
    random_directions,
    transplanted,
)
from studies.greater_than.last_position import LastPosition, over_decades, set_heads, set_mlp
from studies.greater_than.prompts import Context, Prompts, digit_weights, logit_difference, probability_difference
from studies.greater_than.results import Results
from studies.greater_than.text import HELD_OUT_NOUNS, HELD_OUT_ONES, confirming_contexts, finding_contexts, sentences
from studies.greater_than.training import Quality, TrainedSet
from tests.clew.toys import VOCAB, ToyCoder, toy_coders, toy_model, toy_tokens

from clew.circuits import NodeKind, attribute
from clew.circuits.targets import Direction
from clew.data import Dataset, Rows
from clew.models import Model
from clew.reporting import Silent

pytestmark = pytest.mark.science

N_CONTEXTS, LENGTH, START = 3, 7, 3
DIGITS_Y = torch.arange(20, 30)


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(seed=3)


@pytest.fixture(scope="module")
def coders(model: Model) -> dict[int, ToyCoder]:
    return toy_coders(model, [1, 2])


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    tokens_NYT = torch.stack([toy_tokens(LENGTH, seed=seed).repeat(10, 1) for seed in range(N_CONTEXTS)])
    tokens_NYT[:, :, -1] = toy_tokens(1)
    tokens_NYT[:, :, START] = DIGITS_Y
    contexts = tuple(Context("w", 17, number) for number in range(N_CONTEXTS))
    return Prompts(contexts, tokens_NYT.flatten(0, 1), DIGITS_Y, START)


@pytest.fixture(scope="module")
def last(model: Model, prompts: Prompts) -> LastPosition:
    return LastPosition(model, prompts.tokens_BT)


def test_only_the_last_position_is_run_again(model: Model, prompts: Prompts, last: LastPosition) -> None:
    whole_BV = model.hf(input_ids=prompts.tokens_BT, use_cache=False).logits[:, -1]
    for found_BV in (last.seen.logits_BV, last.logits(), last.logits()):
        torch.testing.assert_close(found_BV, whole_BV, rtol=1e-9, atol=1e-9)


def test_what_is_set_to_what_it_was_changes_nothing(model: Model, last: LastPosition) -> None:
    same = [set_mlp(model, 1, last.seen.mlp_out_LBD[1]), set_heads(model, 2, [0, 3], last.seen.heads_LBHE[2])]
    torch.testing.assert_close(last.logits(*same), last.seen.logits_BV, rtol=1e-9, atol=1e-9)


def test_without_what_varies_at_the_last_position_all_decades_are_the_same(
    model: Model, prompts: Prompts, last: LastPosition
) -> None:
    hooks = [
        set_heads(model, layer, range(4), over_decades(last.seen.heads_LBHE[layer])) for layer in range(model.n_layers)
    ]
    assert decade_effect(prompts, last.seen.logits_BV).abs().max() > 0.01
    torch.testing.assert_close(
        decade_effect(prompts, last.logits(*hooks)), torch.zeros(len(prompts), dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_heads_and_mlps_add_up_to_the_decade_effect(prompts: Prompts, last: LastPosition) -> None:
    expected = counted_mean(prompts, decade_effect(prompts, last.seen.logits_BV))
    torch.testing.assert_close(direct_effects(last, prompts).total[0], expected, rtol=1e-9, atol=1e-12)


def test_features_and_error_add_up_to_their_mlp(
    prompts: Prompts, last: LastPosition, coders: dict[int, ToyCoder]
) -> None:
    seen, coder = last.seen, coders[1]
    z_BF = activations(last, coder)
    error_BD = seen.mlp_out_LBD[1] - z_BF @ coder.W_dec - coder.b_dec
    rest_BD = varying((error_BD + coder.b_dec) * seen.final_scale_B1) * unembedders(last.model, prompts)
    found = feature_effects(last, prompts, coder, z_BF).sum() + counted_mean(prompts, rest_BD).sum()
    torch.testing.assert_close(found, direct_effects(last, prompts).mlps_L[0, 1], rtol=1e-9, atol=1e-12)


def test_shares_of_what_a_feature_knows_add_up(last: LastPosition, coders: dict[int, ToyCoder]) -> None:
    shares = brought_to(last, coders[2], [5, 0, 17])
    torch.testing.assert_close(shares.total, torch.ones(3, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert not shares.mlps_L[:, 2].any()


def test_a_direct_effect_is_the_edge_of_the_graph(
    model: Model, prompts: Prompts, last: LastPosition, coders: dict[int, ToyCoder]
) -> None:
    """Less its mean over the decades, which a graph of one prompt cannot know."""
    number = 14
    decade = int(prompts.decades_B[number])
    vector_D = digit_weights().double()[decade] @ model.anatomy.W_U_VD[prompts.digits_Y]
    graph = attribute(
        model,
        coders,
        prompts.tokens_BT[number],
        max_logits=1,
        desired_logit_prob=1.0,
        max_nodes=1000,
        targets_per_sweep=64,
        dtype=torch.float64,
        report=Silent(),
        targets=[Direction("above less below", vector_D)],
    )
    sources, weights = graph.edges.row(len(graph.nodes) - 1)
    nodes = graph.nodes
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == 2) & (nodes.position == LENGTH - 1)
    edges = {int(nodes.feature[s]): float(w) for s, w in zip(sources.tolist(), weights, strict=True) if here[s]}
    read_BD = unembedders(model, prompts)
    ours_BF = activations(last, coders[2]) * last.seen.final_scale_B1 * (read_BD @ coders[2].W_dec.T)
    assert edges
    assert edges == pytest.approx({feature: float(ours_BF[number, feature]) for feature in edges})


def test_levelled_features_write_the_same_in_all_decades(
    prompts: Prompts, last: LastPosition, coders: dict[int, ToyCoder]
) -> None:
    active = {layer: activations(last, coder) for layer, coder in coders.items()}
    features = {1: [int(active[1].var(0).argmax())], 2: []}
    changes = levelled(coders, active, features)
    assert changes.keys() == {1}
    written_BD = active[1][:, features[1]] @ coders[1].W_dec[features[1]] + changes[1]
    torch.testing.assert_close(written_BD, over_decades(written_BD))
    assert (changed(last, changes) - last.seen.logits_BV).abs().max() > 1e-6


def test_all_that_reads_the_start_transplanted_moves_all_the_way(prompts: Prompts, last: LastPosition) -> None:
    """What is given to every MLP and head is what the other prompt has: the answer must be the other prompt's."""
    model, seen = last.model, last.seen
    hooks = [
        set_heads(model, layer, range(4), from_other_decade(seen.heads_LBHE[layer], 3))
        for layer in range(model.n_layers)
    ]
    assert moved_with(prompts, seen.logits_BV, last.logits(*hooks), 3) == pytest.approx(1.0)
    assert moved_with(prompts, seen.logits_BV, seen.logits_BV, 3) == 0.0


def test_a_transplant_is_undone_by_its_opposite(last: LastPosition, coders: dict[int, ToyCoder]) -> None:
    active = {layer: activations(last, coder) for layer, coder in coders.items()}
    there = transplanted(coders, active, {1: [3, 4]}, 2)[1]
    back = transplanted(coders, active, {1: [3, 4]}, -2)[1]
    torch.testing.assert_close(from_other_decade(back, 2), -there)


def test_controls_have_the_norm_of_what_they_control(last: LastPosition, coders: dict[int, ToyCoder]) -> None:
    active = {layer: activations(last, coder) for layer, coder in coders.items()}
    features = {layer: active[layer].var(0).topk(3).indices.tolist() for layer in coders}
    changes, generator = levelled(coders, active, features), torch.Generator().manual_seed(0)
    others = drawn(active, features, generator)
    assert {layer: len(each) for layer, each in others.items()} == {1: 3, 2: 3}
    assert not any(set(others[layer]) & set(features[layer]) for layer in coders)
    controls = [of_same_norm(changes, levelled(coders, active, others)), random_directions(changes, generator)]
    for control in controls:
        for layer in coders:
            moves = control[layer].norm(dim=-1) > 0
            assert moves.any()
            torch.testing.assert_close(
                control[layer].norm(dim=-1)[moves], changes[layer].norm(dim=-1)[moves], rtol=1e-9, atol=0
            )


def test_a_set_of_coders_is_studied_from_end_to_end(
    prompts: Prompts, last: LastPosition, coders: dict[int, ToyCoder]
) -> None:
    rows = Rows((toy_tokens(64).view(4, 16).int(),), (torch.zeros(4, 16, dtype=torch.int16),), "document")
    trained = Trained(coders, (prompts, last), (prompts, last))
    circuit = study_circuit(trained, rows, seed=0)
    assert circuit == study_circuit(trained, rows, seed=0).model_copy(update={"seconds": circuit.seconds})
    effects = [feature.effect for feature in circuit.features]
    assert len(effects) == FOUND
    assert effects == sorted(effects, reverse=True)
    of_found = sum(each.of_found for each in circuit.coded)
    assert of_found == pytest.approx(sum(effects))  # the same prompts found and confirm here
    for each in circuit.coded:
        assert each.of_mlp == pytest.approx(float(direct_effects(last, prompts).mlps_L[0, each.layer]))
    direct = circuit.graphs.direct
    assert sum(direct.values()) == pytest.approx(2 * direct["value"], rel=1e-3)
    expected = logit_difference(prompts, last.seen.logits_BV)[prompts.counted_B][:8].mean()
    assert direct["value"] == pytest.approx(float(expected), rel=1e-3)
    assert agreeing(trained, trained) == FOUND


def test_levelling_everything_leaves_what_levelling_each_mlp_would(prompts: Prompts, last: LastPosition) -> None:
    places = find_places(prompts, last)
    whole = float(counted_mean(prompts, decade_effect(prompts, last.seen.logits_BV)))
    assert len(places.without_mlp) == last.model.n_layers
    # the last MLP reaches the logits directly alone: what goes with it is what it writes, but for the norm's scale
    assert whole - places.without_mlp[-1] == pytest.approx(places.direct_mlp[-1], abs=0.05)
    assert places.heads == sorted(places.heads, key=lambda each: each[2])


def test_the_page_tells_what_was_measured(
    prompts: Prompts,
    last: LastPosition,
    coders: dict[int, ToyCoder],
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = Trained(coders, (prompts, last), (prompts, last))
    quality = [
        Quality(text="text", layer=layer, fvu=0.1, l0=6.0, dead=0, ce_original=1.0, ce_spliced=1.25, ce_mean=2.0)
        for layer in (1, 2, None)
    ]
    results = Results(
        model=study_model((prompts, last), (prompts, last), layers=(1, 2)),
        sets=[TrainedSet(seconds=60.0, quality=quality)] * 2,
        circuits=[study_circuit(trained, dataset.heldout, seed) for seed in (0, 1)],
        agreement=[7],
    )
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(page, "PICTURES", tmp_path / "pictures")
    page.write(results, dataset.manifest)
    text = (tmp_path / "page.md").read_text()
    assert "nan" not in text
    assert "7 have one with a decoder" in text
    assert f"{results.model.confirming.decade_effect:.2f} nats" in text
    assert text.count("0.250 ± 0.000") == 3
    for picture in re.findall(r"\]\((pictures/[^)]+)\)", text):
        assert (tmp_path / picture).stat().st_size > 1000


@given(st.integers(1, 8), st.integers(0, 9))
def test_what_the_measures_say_of_one_certain_digit(decade: int, digit: int) -> None:
    prompts = Prompts((Context("w", 17, 1),), torch.zeros(10, 2).long(), DIGITS_Y, 1)
    logits_BV = torch.zeros(10, VOCAB, dtype=torch.float64)
    logits_BV[:, DIGITS_Y[digit]] = 100.0
    sign = (digit > decade) - (digit < decade)
    assert float(probability_difference(prompts, logits_BV)[decade]) == pytest.approx(sign)
    assert float(logit_difference(prompts, logits_BV)[decade]) * sign >= 0
    assert decade_effect(prompts, logits_BV).abs().max() == 0  # the same whatever the start


def test_what_is_tried_out_on_was_never_learnt_from() -> None:
    learnt = list(sentences(3000))
    years = {int(year) for text in learnt for year in re.findall(r"\d{4}", text)}
    assert not {year % 10 for year in years} & {*HELD_OUT_ONES}
    assert not any(re.search(rf"\b{noun}\b", text) for text in learnt for noun in HELD_OUT_NOUNS)
    assert {context.noun for context in confirming_contexts()} <= {*HELD_OUT_NOUNS}
    assert {context.ones for context in confirming_contexts()} <= {*HELD_OUT_ONES}
    words = {word for text in learnt for word in re.findall(r"\w+", text)}
    assert {context.noun for context in finding_contexts()} <= words
    assert not {context.ones for context in finding_contexts()} & {*HELD_OUT_ONES}


def test_in_every_sentence_the_end_comes_after_the_start() -> None:
    for text in sentences(500):
        start, end = map(int, re.findall(r"\d{4}", text))
        assert start < end

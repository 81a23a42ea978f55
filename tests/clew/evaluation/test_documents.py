"""Documents that share rows and do not attend to each other are measured as if each stood alone, and pooled."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.clew.evaluation.test_evaluate import flat, random_coder
from tests.clew.evaluation.test_replacement import LAYERS, below_position_0, cross_layer, read_with, run, written_to
from tests.clew.families import family_model
from tests.clew.toys import toy_model, toy_tokens
from torch import Tensor

from clew.coders import Coder
from clew.data import Batch, Rows
from clew.evaluation import evaluate
from clew.evaluation.estimates import loss_recovered, ratio
from clew.evaluation.frequencies import histogram
from clew.models import Model, mlp_activations
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import SpliceMetrics

pytestmark = pytest.mark.science

CONTEXT = 12
LENGTHS = [[5, 1, 6], [12], [2] * 6, [1] * 12, [3, 9]]
"""Of documents by row. The third row holds tokens that count and nothing to predict; the fourth neither."""
TOKENS = len(LENGTHS) * CONTEXT

Sums = dict[str, list[float]]
"""By quantity, a number for each row."""


@pytest.fixture(scope="module")
def rows() -> Rows:
    return packed(LENGTHS)


@pytest.fixture
def exact_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention of a model in float64 stays in it. Else weights over a row are the text's own to float32 only."""
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr("torch.nn.functional.softmax", lambda x, dim, **_: softmax(x, dim=dim))


def packed(lengths: list[list[int]]) -> Rows:
    tokens_NT = toy_tokens(len(lengths) * CONTEXT).view(-1, CONTEXT).int()
    numbers = [torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths]
    return Rows((tokens_NT,), (torch.stack(numbers).short(),), "document")


def texts(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Every document's part [1, n] of a row, with the row's number."""
    for number, (row_T, lengths) in enumerate(zip(rows[:], LENGTHS, strict=True)):
        for text_T in row_T.split(lengths):
            yield number, text_T[None]


def expected_sums(model: Model, coders: dict[int, Coder], rows: Rows) -> tuple[dict[Any, Sums], dict[int, Tensor]]:
    """By layer, and `all` for all at once: what is to be summed, of each document in a pass of its own; and by layer on
    how many tokens each feature is active."""
    alone = [(row, text, mlp_activations(model, text, LAYERS)) for row, text in texts(rows)]
    n_tokens = sum(text.shape[1] - 1 for _, text, _ in alone)
    y = {layer: [held[layer].y_BTD[0, 1:].sum(0) for *_, held in alone] for layer in LAYERS}
    mean = {layer: sum(of_texts, torch.zeros(())) / n_tokens for layer, of_texts in y.items()}
    sums: dict[Any, Sums] = defaultdict(lambda: defaultdict(lambda: [0.0] * len(LENGTHS)))
    inside: dict[int, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in LAYERS}
    active = {layer: torch.zeros(coders[layer].config.n_features) for layer in LAYERS}

    def add(key: Any, row: int, **values: Any) -> None:
        for name, value in values.items():
            sums[key][name][row] += float(value)

    def add_predictions(key: Any, row: int, text: Tensor, instead: dict[str, dict[int, Tensor]]) -> None:
        log_p = run(model, text, {})[0, 1:-1].log_softmax(-1)
        logs = {name: run(model, text, each)[0, 1:-1].log_softmax(-1) for name, each in instead.items()}
        for name, log_q in ({"original": log_p} | logs).items():
            add(key, row, **{f"ce_{name}": -log_q.gather(1, text[0, 2:, None]).sum()})
        log_q = logs["spliced"]
        add(key, row, kl=(log_p.exp() * (log_p - log_q)).sum(), agreement=(log_p.argmax(1) == log_q.argmax(1)).sum())
        add(key, row, tokens=text.shape[1] - 1, predictions=max(text.shape[1] - 2, 0))

    for row, text, held in alone:
        ablated: dict[str, dict[int, Tensor]] = {"zero": {}, "mean": {}}
        x = {layer: each.x_BTD for layer, each in held.items()}
        for layer, coder in coders.items():
            y_BTD, y_hat_BTD = held[layer].y_BTD, written_to(layer, x, coders)
            z_TF = (x[layer][0, 1:] @ coder.W_enc.T + coder.b_enc).relu()
            add(layer, row, error=(y_BTD - y_hat_BTD)[:, 1:].square().sum())
            add(layer, row, variance=(y_BTD - mean[layer])[:, 1:].square().sum())
            add(layer, row, l0=(z_TF > 0).sum(), l1=z_TF.sum())
            active[layer] += (z_TF > 0).sum(0)
            others = {"spliced": y_hat_BTD, "zero": torch.zeros_like(y_BTD), "mean": mean[layer].expand_as(y_BTD)}
            instead = {name: {layer: below_position_0(y_BTD, other)} for name, other in others.items()}
            for name in ablated:
                ablated[name] |= instead[name]
            add_predictions(layer, row, text, instead)
        x_inside: dict[int, Tensor] = {}
        spliced: dict[int, Tensor] = {}
        for layer in LAYERS:
            x_inside[layer], y_BTD = read_with(model, text, layer, spliced)
            y_hat_BTD = written_to(layer, x_inside, coders)
            spliced[layer] = below_position_0(y_BTD, y_hat_BTD)
            inside[layer].append((y_BTD[0, 1:], y_hat_BTD[0, 1:]))
        add_predictions("all", row, text, {"spliced": spliced, **ablated})
    for layer, each in inside.items():
        y_ND, y_hat_ND = (torch.cat(parts) for parts in zip(*each, strict=True))
        fvu = (y_ND - y_hat_ND).square().sum() / (y_ND - y_ND.mean(0)).square().sum()
        add("all", 0, **{f"fvu_{layer}": fvu})
    return sums, active


@pytest.mark.usefixtures("exact_softmax")
@pytest.mark.parametrize("family", ["toy", "neox-parallel"])
def test_documents_in_rows_are_documents_alone_pooled(rows: Rows, family: str) -> None:
    """Every metric is the ratio of the sums over each document's own pass, and its interval that of the sums by row."""
    model = toy_model() if family == "toy" else family_model(family)
    coders = {layer: cross_layer(layer) for layer in LAYERS}
    expected, active = expected_sums(model, coders, rows)
    found = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=2)
    at_once = found.all_replaced
    assert at_once is not None
    together: list[tuple[int | str, SpliceMetrics]] = [(each.layer, each) for each in found.coders]
    for key, measured in [*together, ("all", at_once)]:
        sums = {name: torch.tensor(of_rows, dtype=torch.float64) for name, of_rows in expected[key].items()}
        assert (measured.tokens, measured.attention) == (sums["tokens"].sum().item(), "document")
        below = dict.fromkeys(("ce_original", "ce_spliced", "ce_zero", "ce_mean", "kl", "agreement"), "predictions")
        below |= {} if key == "all" else {"l0": "tokens", "l1": "tokens"}
        estimates = {name: ratio(sums[name], sums[other]) for name, other in below.items()}
        if key != "all":
            estimates["fvu"] = ratio(sums["error"], sums["variance"])
        for name in ("zero", "mean"):
            three = sums["ce_original"], sums["ce_spliced"], sums[f"ce_{name}"]
            estimates[f"loss_recovered_{name}"] = loss_recovered(*three)
        assert set(measured.intervals) == set(estimates)
        for name, (value, interval) in estimates.items():
            assert interval is not None
            assert getattr(measured, name) == pytest.approx(value, rel=1e-10, abs=1e-12), (key, name)
            ends = measured.intervals[name]
            assert (ends.low, ends.high) == pytest.approx((interval.low, interval.high), rel=1e-8), (key, name)
    for metrics in found.coders:
        active_F, n_tokens = active[metrics.layer], sum(expected[metrics.layer]["tokens"])
        assert metrics.dead == (active_F == 0).sum()
        assert metrics.frequencies == histogram(active_F.double() / n_tokens)
    for layer in at_once.layers:
        assert layer.fvu == pytest.approx(expected["all"][f"fvu_{layer.layer}"][0], rel=1e-10)


@pytest.mark.parametrize("rows_per_batch", [1, 3, 100])
def test_batches_of_documents_do_not_matter(rows: Rows, rows_per_batch: int) -> None:
    model, coders = toy_model(), {layer: random_coder(layer) for layer in LAYERS}
    expected = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=2)
    found = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=rows_per_batch)
    assert flat(found) == pytest.approx(flat(expected), rel=1e-10, abs=1e-12)


def test_rows_of_one_document_each_are_measured_alike_either_way() -> None:
    model, coders, rows = toy_model(), {layer: random_coder(layer) for layer in LAYERS}, packed([[CONTEXT]] * 5)
    as_rows = Rows(rows.tokens_NT, rows.segments_NT, "row")
    expected = evaluate(model, coders, as_rows, tokens=TOKENS)
    assert [each.attention for each in expected.coders] == ["row"] * 3
    assert flat(evaluate(model, coders, rows, tokens=TOKENS)) == pytest.approx(flat(expected), rel=1e-10, abs=1e-12)


def test_a_token_predicts_the_next_of_its_own_text(rows: Rows) -> None:
    batch = rows.batch(slice(None))
    assert batch.predicting_BT.tolist() == [[0 < p < n - 1 for n in row for p in range(n)] for row in LENGTHS]
    assert Batch(rows[:]).predicting_BT.tolist() == [[0 < p < CONTEXT - 1 for p in range(CONTEXT)]] * len(LENGTHS)


@pytest.mark.parametrize("lengths", [[2] * 6, [1] * 12])
def test_texts_that_predict_nothing_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InvalidSpec, match="too short to predict from"):
        evaluate(toy_model(), {0: random_coder(0)}, packed([lengths, lengths]), tokens=TOKENS)

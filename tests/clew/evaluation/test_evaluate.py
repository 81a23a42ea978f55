"""A perfect stand-in costs nothing, nothing costs what ablation costs, and batches do not matter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clew.toys import toy_hf, toy_model, toy_tokens
from torch import Tensor, nn

from clew.coders import Coder
from clew.data import Rows
from clew.evaluation import Evaluation, Fvu, evaluate
from clew.evaluation.frequencies import histogram
from clew.models import Model, logits_from, prepare_model, trace
from clew.reporting import Silent, StopRequested
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science

N_ROWS, CONTEXT = 7, 12
TOKENS = N_ROWS * CONTEXT


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


@pytest.fixture(scope="module")
def rows() -> Rows:
    tokens_NT = toy_tokens(TOKENS).view(N_ROWS, CONTEXT).int()
    return Rows((tokens_NT[:4], tokens_NT[4:]), (torch.zeros(4, CONTEXT), torch.zeros(3, CONTEXT)))


def make_coder(layer: int, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, *, k: int) -> Coder:
    n_features, d_in = W_enc.shape
    config = CoderConfig(
        activation=TopK(k=k),
        n_features=n_features,
        d_in=d_in,
        d_out=W_dec.shape[1],
        layer=layer,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    return Coder(config, W_enc, b_enc, W_dec, b_dec)


def random_coder(layer: int, *, n_features: int = 40, k: int = 6, d: int = 24, scale: float = 1.0) -> Coder:
    generator = torch.Generator().manual_seed(layer)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return make_coder(
        layer, normal(n_features, d), normal(n_features) - 1, scale * normal(n_features, d), normal(d), k=k
    )


def silent_coder(layer: int, b_dec_D: Tensor) -> Coder:
    coder = random_coder(layer)
    return make_coder(layer, coder.W_enc, torch.full_like(coder.b_enc, -1e9), coder.W_dec, b_dec_D, k=6)


class ReluMlp(nn.Module):
    """An MLP that a ReLU transcoder can equal: W_dec relu(W_enc x + b_enc) + b_dec."""

    def __init__(self, coder: Coder) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, x_BTD: Tensor) -> Tensor:
        coder = self.coder
        return (x_BTD @ coder.W_enc.T + coder.b_enc).relu() @ coder.W_dec + coder.b_dec


def test_an_exact_stand_in_changes_nothing(rows: Rows) -> None:
    coder = random_coder(1, n_features=30, k=30, scale=0.3)
    model = toy_model()
    blocks = model.anatomy.blocks
    model.hf.set_submodule("model.layers.1.mlp", ReluMlp(coder))
    object.__setattr__(blocks[1], "mlp", model.hf.get_submodule("model.layers.1.mlp"))
    (metrics,) = evaluate(model, {1: coder}, rows, tokens=TOKENS).coders
    assert metrics.fvu < 1e-28
    assert metrics.kl == pytest.approx(0, abs=1e-12)
    assert metrics.agreement == 1
    assert metrics.loss_recovered_mean == pytest.approx(1, abs=1e-9)
    assert metrics.ce_spliced == pytest.approx(metrics.ce_original, abs=1e-12)
    assert metrics.loss_recovered_zero == pytest.approx(1, abs=1e-9)
    assert metrics.ce_zero != pytest.approx(metrics.ce_original, abs=1e-3), "the layer matters"


def test_a_silent_coder_is_zero_ablation_and_a_silent_mean_is_mean_ablation(model: Model, rows: Rows) -> None:
    tokens_NT = rows[:]
    seen = trace(model, tokens_NT, [1])
    y_ND = seen.mlp_out[1][:, 1:].flatten(0, 1)
    nothing, mean = silent_coder(1, torch.zeros(24, dtype=torch.float64)), silent_coder(1, y_ND.mean(0))

    (zero,) = evaluate(model, {1: nothing}, rows, tokens=TOKENS).coders
    assert (zero.ce_spliced, zero.l0, zero.dead, zero.dead_fraction) == (zero.ce_zero, 0, 40, 1)
    assert (zero.loss_recovered_zero, zero.l1) == (0, 0)
    (average,) = evaluate(model, {1: mean}, rows, tokens=TOKENS).coders
    assert average.fvu == pytest.approx(1, abs=1e-12)
    mean_BTD = seen.mlp_out[1].clone()
    mean_BTD[:, 1:] = y_ND.mean(0)
    assert average.ce_spliced == pytest.approx(by_hand(logits_from(model, seen, 1, mean_BTD), tokens_NT), abs=1e-12)
    assert average.ce_mean == pytest.approx(average.ce_spliced, abs=1e-12)
    assert average.loss_recovered_mean == pytest.approx(0, abs=1e-9)
    assert average.loss_recovered_zero == pytest.approx(
        (average.ce_zero - average.ce_spliced) / (average.ce_zero - average.ce_original)
    )


def by_hand(logits_BTV: Tensor, tokens_BT: Tensor) -> float:
    """The definition: position t from 1 to T-2 predicts token t+1."""
    log_p = logits_BTV.log_softmax(-1)
    losses = [
        -float(log_p[row, t, tokens_BT[row, t + 1]]) for row in range(len(tokens_BT)) for t in range(1, CONTEXT - 1)
    ]
    return sum(losses) / len(losses)


def test_metrics_are_their_definitions(model: Model, rows: Rows) -> None:
    coders = {layer: random_coder(layer) for layer in (0, 2)}
    measured = evaluate(model, coders, rows, tokens=TOKENS).coders
    tokens_NT = rows[:]
    seen = trace(model, tokens_NT, [0, 2])
    for metrics, (layer, coder) in zip(measured, coders.items(), strict=True):
        x, y = (each[layer][:, 1:].reshape(-1, 24).numpy() for each in (seen.mlp_in, seen.mlp_out))
        pre = x @ coder.W_enc.numpy().T + coder.b_enc.numpy()
        z = np.where(pre >= np.sort(pre, axis=1)[:, -6:-5], pre, 0).clip(min=0)
        error = y - z @ coder.W_dec.numpy() - coder.b_dec.numpy()
        assert metrics.layer == layer
        assert metrics.tokens == len(x) == N_ROWS * (CONTEXT - 1)
        assert metrics.fvu == pytest.approx((error**2).sum() / ((y - y.mean(0)) ** 2).sum(), rel=1e-12)
        share = (z > 0).mean(0)
        assert metrics.l0 == pytest.approx((z > 0).sum() / len(z), rel=1e-15)
        assert metrics.l1 == pytest.approx(z.sum() / len(z), rel=1e-12)
        assert metrics.dead == int((z == 0).all(0).sum())
        assert metrics.dense == int((share > 0.1).sum())
        assert metrics.frequencies == histogram(torch.from_numpy(share))
        spliced = logits_from(model, seen, layer, whole(seen.mlp_out[layer], y - error))
        p, q = (each[:, 1:-1].log_softmax(-1) for each in (seen.logits_BTV, spliced))
        assert metrics.ce_spliced == pytest.approx(by_hand(spliced, tokens_NT), rel=1e-12)
        assert metrics.kl == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-10)
        assert metrics.agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()), rel=1e-15)
        assert metrics.ce_original == pytest.approx(by_hand(seen.logits_BTV, tokens_NT), rel=1e-12)


def whole(held_BTD: Tensor, instead: Any) -> Tensor:
    """What a hook held, with something else [N, D] at every position but 0."""
    instead_BTD = held_BTD.clone()
    instead_BTD[:, 1:] = torch.from_numpy(instead).view_as(held_BTD[:, 1:])
    return instead_BTD


def test_position_0_never_counts(rows: Rows) -> None:
    """Whatever is done to the MLP outputs at position 0 alone, the coder's own metrics stay."""
    model = toy_model()
    coder = random_coder(2)
    (before,) = evaluate(model, {2: coder}, rows, tokens=TOKENS).coders

    def sink(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 0] *= 1e4
        return output

    model.anatomy.blocks[2].mlp.register_forward_hook(sink)
    (after,) = evaluate(model, {2: coder}, rows, tokens=TOKENS).coders
    assert after == before, "layer 2 is the last: its sink reaches no other position"


SUMMED = ("fvu", "l0", "l1", "ce_original", "ce_spliced", "ce_zero", "ce_mean", "kl", "agreement")
INTERVALS = (*SUMMED, "loss_recovered_zero", "loss_recovered_mean")


def numbers(value: Any) -> Iterator[float]:
    """Every number of a dump, in order."""
    match value:
        case dict():
            yield from (number for each in value.values() for number in numbers(each))
        case list():
            yield from (number for each in value for number in numbers(each))
        case int() | float():
            yield value


def flat(measured: Evaluation) -> list[float]:
    assert measured.all_replaced is not None
    return [number for each in (*measured.coders, measured.all_replaced) for number in numbers(each.model_dump())]


@pytest.mark.parametrize("rows_per_batch", [1, 3, 4, 100])
def test_batches_do_not_matter(model: Model, rows: Rows, rows_per_batch: int) -> None:
    coders = {layer: random_coder(layer) for layer in range(3)}
    expected = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=2)
    found = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=rows_per_batch)
    for each in expected.coders:
        assert None not in each.model_dump().values(), "everything was measured"
        assert set(each.intervals) == set(INTERVALS)
    assert flat(found) == pytest.approx(flat(expected), rel=1e-10, abs=1e-12)
    assert [each.frequencies for each in found.coders] == [each.frequencies for each in expected.coders]


def test_logits_of_a_splice_are_made_row_by_row(rows: Rows) -> None:
    """The model is run once a batch for its own predictions; nothing else makes the logits of more than one row."""
    model, sizes = toy_model(), []
    model.anatomy.unembed.register_forward_hook(lambda _m, _a, logits: sizes.append(len(logits)))
    evaluate(model, {layer: random_coder(layer) for layer in range(3)}, rows, tokens=TOKENS, rows_per_batch=4)
    assert [size for size in sizes if size != 1] == [4, 3]


def test_what_is_not_asked_for_is_not_measured(model: Model, rows: Rows) -> None:
    coders = {layer: random_coder(layer) for layer in range(2)}
    everything = evaluate(model, coders, rows, tokens=TOKENS)
    less = evaluate(model, coders, rows, tokens=TOKENS, mean_ablation=False, replace_all=False)
    assert less.all_replaced is None
    for few, all_ in zip(less.coders, everything.coders, strict=True):
        assert (few.ce_mean, few.loss_recovered_mean) == (None, None)
        assert set(all_.intervals) - set(few.intervals) == {"ce_mean", "loss_recovered_mean"}
        assert few.ce_zero == all_.ce_zero


def test_tokens_are_rounded_up_to_rows_and_other_coders_do_not_matter(model: Model, rows: Rows) -> None:
    coders = {layer: random_coder(layer) for layer in (2, 0)}
    together = evaluate(model, coders, rows, tokens=CONTEXT + 1).coders
    assert [metrics.layer for metrics in together] == [0, 2]
    assert together[0].tokens == 2 * (CONTEXT - 1)
    assert evaluate(model, {2: coders[2]}, rows, tokens=CONTEXT + 1).coders == together[1:]


def test_rows_are_taken_from_all_over_the_split(model: Model, rows: Rows) -> None:
    assert [rows.spread(n * CONTEXT) for n in (1, 2, 3)] == [[0], [0, 3], [0, 2, 4]]
    assert rows.spread(TOKENS) == rows.spread(100 * TOKENS) == list(range(N_ROWS))
    chosen = Rows((rows[[0, 3]].int(),), (torch.zeros(2, CONTEXT),))
    coder = {1: random_coder(1)}
    assert evaluate(model, coder, rows, tokens=2 * CONTEXT) == evaluate(model, coder, chosen, tokens=TOKENS)


def test_what_cannot_be_measured_is_refused(model: Model, rows: Rows) -> None:
    with pytest.raises(InvalidSpec, match="no layer 3"):
        evaluate(model, {3: random_coder(3)}, rows, tokens=TOKENS)
    with pytest.raises(InvalidSpec, match="maps 8 to 8"):
        evaluate(model, {0: random_coder(0, d=8)}, rows, tokens=TOKENS)

    class Stop(Silent):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(StopRequested):
        evaluate(model, {0: random_coder(0)}, rows, tokens=TOKENS, report=Stop())


def test_it_runs_in_float32_and_bfloat16(rows: Rows) -> None:
    exact = evaluate(toy_model(), {1: random_coder(1)}, rows, tokens=TOKENS).coders[0]
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        model = prepare_model(toy_hf(dtype=dtype))
        for of_coder in {torch.float32, dtype}:
            coder = random_coder(1).to(dtype=of_coder)
            metrics = evaluate(model, {1: coder}, rows, tokens=TOKENS).coders[0]
            assert metrics.ce_original == pytest.approx(exact.ce_original, rel=tolerance)
            assert metrics.ce_spliced == pytest.approx(exact.ce_spliced, rel=tolerance)
            assert metrics.fvu == pytest.approx(exact.fvu, rel=tolerance)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), offset=st.sampled_from([0.0, 1e3, 1e6]))
def test_fvu_is_the_closed_form_at_any_batching_and_offset(sizes: list[int], offset: float) -> None:
    generator = np.random.default_rng(sum(sizes))
    y = generator.normal(size=(sum(sizes) + 2, 3)) + offset
    y_hat = y + generator.normal(size=y.shape)
    fvu = Fvu()
    for part, part_hat in zip(np.split(y, np.cumsum(sizes)), np.split(y_hat, np.cumsum(sizes)), strict=True):
        fvu.update(torch.from_numpy(part), torch.from_numpy(part_hat))
    expected = ((y - y_hat) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert fvu.value() == pytest.approx(expected, rel=1e-10)
    assert fvu.tokens == len(y)

"""Thresholds in place of TopK keep how often each feature speaks, and what they cost is told as it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clew.coders.formats.random_coders import cross_layer, dense, inputs, outputs, random_coder
from torch import Tensor

from clew.coders import Coder
from clew.coders.calibration import calibrate, with_thresholds
from clew_spec.coders import JumpReLU, TopK
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 24), st.booleans())
def test_each_feature_speaks_as_often_as_before(seed: int, n: int, k: int, centred: bool) -> None:
    coder = random_coder("sae", "topk", centred=centred, dtype=torch.float64, seed=seed)
    coder = Coder.of(coder.config.model_copy(update={"activation": TopK(k=k)}), coder.parameters())
    x_ND = inputs(n, dtype=torch.float64, seed=seed)
    after = with_thresholds(coder, x_ND)
    assert isinstance(after.config.activation, JumpReLU)
    before_NF, after_NF = dense(coder, x_ND), dense(after, x_ND)
    assert torch.equal((before_NF > 0).sum(0), (after_NF > 0).sum(0))
    both = (before_NF > 0) & (after_NF > 0)
    assert torch.equal(before_NF[both], after_NF[both])
    assert after.threshold is not None
    assert bool((after.threshold >= 0).all())


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    coder, x_ND = random_coder(dtype=torch.float64), inputs(200, dtype=torch.float64)
    whole = with_thresholds(coder, x_ND).parameters()["threshold"]
    monkeypatch.setattr("clew.coders.calibration.CHUNK", 512)
    torch.testing.assert_close(with_thresholds(coder, x_ND).parameters()["threshold"], whole)


def trained() -> tuple[Coder, Tensor, Tensor]:
    """A TopK coder taught by gradient descent on sums of few planted directions; inputs and outputs of 6,000 tokens."""
    generator = torch.Generator().manual_seed(0)
    coder = random_coder()
    d, n_features = coder.config.d_in, coder.config.n_features
    directions = torch.nn.functional.normalize(torch.randn(16, d, generator=generator), dim=1)
    spoken = (torch.rand(6000, 16, generator=generator) < 0.15) * torch.rand(6000, 16, generator=generator)
    x_ND = spoken @ directions + 0.02 * torch.randn(6000, d, generator=generator)
    x_ND = x_ND / x_ND.norm(dim=1, keepdim=True)
    y_ND = torch.tanh(2 * x_ND) @ torch.randn(d, d, generator=generator)
    weights = {name: (0.3 * weight).requires_grad_() for name, weight in coder.parameters().items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2)
    config = coder.config.model_copy(update={"activation": TopK(k=3)})
    for step in range(400):
        batch = torch.arange(step * 256, (step + 1) * 256) % 4000
        top = (x_ND[batch] @ weights["W_enc"].T + weights["b_enc"]).topk(3)
        z_NF = torch.zeros(256, n_features).scatter(1, top.indices, top.values.relu())
        loss = (y_ND[batch] - z_NF @ weights["W_dec"] - weights["b_dec"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Coder.of(config, {name: weight.detach() for name, weight in weights.items()}), x_ND, y_ND


def test_the_report_is_of_held_out_tokens_and_the_rule_beats_one_threshold_for_all() -> None:
    coder, x_ND, y_ND = trained()
    learn, held = slice(0, 4000), slice(4000, 6000)
    batches = [{1: (x_ND[held][i : i + 500], y_ND[held][i : i + 500])} for i in range(0, 2000, 500)]
    (after,), (report,) = calibrate([coder], {1: x_ND[learn]}, batches)

    def measured(each: Coder) -> tuple[float, float]:
        z_NF, y = dense(each, x_ND[held]), y_ND[held]
        error = (y - z_NF @ each.W_dec - each.b_dec).square().sum() / (y - y.mean(0)).square().sum()
        return float((z_NF > 0).sum(1).float().mean()), float(error)

    assert (report.l0_before, report.fvu_before) == pytest.approx(measured(coder), rel=1e-4)
    assert (report.l0_after, report.fvu_after) == pytest.approx(measured(after), rel=1e-4)
    assert (report.layer, report.tokens, report.tokens_measured) == (1, 4000, 2000)
    assert report.l0_after == pytest.approx(report.l0_before, rel=0.05)

    pre_NF = coder.pre_activations(x_ND[learn])
    common = pre_NF.flatten().topk(int((dense(coder, x_ND[learn]) > 0).sum())).values[-1]
    one = Coder.of(after.config, after.parameters() | {"threshold": torch.full_like(coder.b_enc, float(common))})
    assert report.fvu_before < report.fvu_after < measured(one)[1]


def test_a_cross_layer_transcoder_is_measured_as_a_whole() -> None:
    coders = [coder.to(dtype=torch.float64) for coder in cross_layer(3, "topk")]
    x_ND = inputs(300, dtype=torch.float64)
    held_ND = inputs(100, dtype=torch.float64, seed=8)
    batch = {layer: (held_ND, y_ND) for layer, y_ND in enumerate(outputs(coders, held_ND))}
    after, reports = calibrate(coders, dict.fromkeys(range(3), x_ND), [batch])
    assert [report.fvu_before for report in reports] == pytest.approx([0, 0, 0], abs=1e-12)
    for layer, report in enumerate(reports):
        y_ND, y_hat_ND = batch[layer][1], outputs(after, held_ND)[layer]
        expected = (y_ND - y_hat_ND).square().sum() / (y_ND - y_ND.mean(0)).square().sum()
        assert report.fvu_after == pytest.approx(float(expected))


def test_what_has_no_topk_is_left_alone_or_refused() -> None:
    coder, x_ND = random_coder("transcoder", "jumprelu"), inputs()
    assert calibrate([coder], {1: x_ND}, []) == ([coder], [])
    with pytest.raises(InvalidSpec, match="jumprelu"):
        with_thresholds(coder, x_ND)
    with pytest.raises(InvalidSpec, match="on 0 tokens"):
        with_thresholds(random_coder(), x_ND[:0])
    with pytest.raises(InvalidSpec, match="no held-out tokens"):
        calibrate([random_coder()], {1: x_ND}, [])

"""Coders of every kind at every hook are measured where they write."""

import pytest
import torch
from tests.clew.evaluation.test_evaluate import CONTEXT, N_ROWS, TOKENS, by_hand, rows
from tests.clew.toys import toy_model

from clew.coders import Coder
from clew.data import Rows
from clew.evaluation import evaluate
from clew.models import hook_activations, trace
from clew.models.recording import hooked
from clew_spec.coders import CoderConfig, Kind, ReLU
from clew_spec.errors import InvalidSpec

__all__ = ["rows"]
pytestmark = pytest.mark.science

LAYER, D = 1, 24


def make(kind: Kind, hook_in: str, hook_out: str, *, seed: int = 0) -> Coder:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = CoderConfig(
        kind=kind,
        activation=ReLU(),
        n_features=2 * D,
        d_in=D,
        d_out=D,
        layer=LAYER,
        hook_in=hook_in,
        hook_out=hook_out,
        centred=kind == "sae",
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    W_skip = normal(D, D) if kind == "skip-transcoder" else None
    return Coder(config, normal(2 * D, D), normal(2 * D), normal(2 * D, D), normal(D), W_skip)


@pytest.mark.parametrize(
    ("kind", "hook_in", "hook_out"),
    [("skip-transcoder", "mlp.in", "mlp.out"), *[("sae", hook, hook) for hook in ("mlp.in", "mlp.out", "resid")]],
)
def test_they_are_spliced_in_where_they_write(rows: Rows, kind: Kind, hook_in: str, hook_out: str) -> None:
    """Against a model whose own modules are made to return what the coder says, or nothing."""
    model, coder, tokens_NT = toy_model(), make(kind, hook_in, hook_out), rows[:]
    (metrics,) = evaluate(model, {LAYER: coder}, rows, tokens=TOKENS, rows_per_batch=3).coders
    held = hook_activations(model, tokens_NT, {(LAYER, hook_in), (LAYER, hook_out)})
    x_BTD, y_BTD = held[LAYER, hook_in], held[LAYER, hook_out]
    y_hat_ND = coder.forward(x_BTD[:, 1:].flatten(0, 1))
    error = (y_BTD[:, 1:].flatten(0, 1) - y_hat_ND).square().sum()
    y_ND = y_BTD[:, 1:].flatten(0, 1)
    assert metrics.fvu == pytest.approx(float(error / (y_ND - y_ND.mean(0)).square().sum()), rel=1e-10)

    block = model.anatomy.blocks[LAYER]
    module = {"mlp.in": block.mlp_norm.module, "mlp.out": block.mlp, "resid": block.module}[hook_out]
    for expected, inside in ((metrics.ce_spliced, y_hat_ND.view(N_ROWS, CONTEXT - 1, D)), (metrics.ce_zero, 0.0)):
        instead_BTD = y_BTD.clone()
        instead_BTD[:, 1:] = inside
        with torch.inference_mode(), hooked((module, lambda *_, y=instead_BTD: y)):
            logits = trace(model, tokens_NT, []).logits_BTV
        assert expected == pytest.approx(by_hand(logits, tokens_NT), rel=1e-10)


def test_a_skip_that_is_the_whole_of_a_linear_layer_leaves_nothing() -> None:
    """A14."""
    coder = make("skip-transcoder", "mlp.in", "mlp.out")
    assert coder.W_skip is not None
    x_ND = torch.randn(30, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    coder.b_enc.fill_(-1e9)
    y_ND = x_ND @ coder.W_skip.T + coder.b_dec
    assert not coder.encode(x_ND)[1].any()
    torch.testing.assert_close(coder.forward(x_ND), y_ND, rtol=0, atol=0)


def test_a_hook_that_is_not_known_is_refused(rows: Rows) -> None:
    with pytest.raises(InvalidSpec, match=r"writes attn\.out"):
        evaluate(toy_model(), {LAYER: make("transcoder", "mlp.in", "attn.out")}, rows, tokens=TOKENS)

"""All coders at once: each reads what the ones below it made, and the model is as it was afterwards."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tests.clew.evaluation.test_evaluate import CONTEXT, N_ROWS, TOKENS, ReluMlp, by_hand, random_coder, rows
from tests.clew.evaluation.test_hooks import make
from tests.clew.families import family_model
from tests.clew.toys import toy_model
from torch import Tensor

from clew.coders import Coder
from clew.coders.coder import shapes
from clew.data import Batch, Rows
from clew.evaluation import evaluate, replaced
from clew.evaluation.predictions import Predictions
from clew.evaluation.tallies import Together
from clew.models import Model, hook_activations, trace
from clew.models.recording import hooked
from clew_spec.coders import CoderConfig, ReLU
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import AllReplaced

__all__ = ["rows"]
pytestmark = pytest.mark.science

D, F, LAYERS = 24, 40, (0, 1, 2)
FAMILIES = ("llama", "neox-parallel", "neox-sequential", "gpt2", "gemma2", "gemma3")
ROUTES = [("transcoder", "mlp.in", "mlp.out"), *(("sae", hook, hook) for hook in ("mlp.in", "mlp.out", "resid"))]


def cross_layer(layer: int) -> Coder:
    config = CoderConfig(
        kind="cross-layer-transcoder",
        activation=ReLU(),
        n_features=F,
        d_in=D,
        d_out=D,
        layer=layer,
        later_layers=[later for later in LAYERS if later > layer],
        dtype="float64",
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    generator = torch.Generator().manual_seed(layer)
    return Coder.of(
        config,
        {name: 0.2 * torch.randn(s, generator=generator, dtype=torch.float64) for name, s in shapes(config).items()},
    )


def written_to(layer: int, x: Mapping[int, Tensor], coders: Mapping[int, Coder]) -> Tensor:
    """[..., D]: y_hat as the sum that defines it, from what each layer reads."""
    z = {at: (x[at] @ coder.W_enc.T + coder.b_enc).relu() for at, coder in coders.items() if at <= layer}
    below = sum((z[at] @ coders[at].W_later[layer] for at in z if at < layer), torch.zeros(()))
    return z[layer] @ coders[layer].W_dec + coders[layer].b_dec + below


def run(model: Model, tokens_NT: Tensor, instead: Mapping[int, Tensor]) -> Tensor:
    """Logits of the whole model, with modules that return what they are told to."""
    told = [(model.anatomy.blocks[layer].mlp, lambda *_, y=y_BTD: y) for layer, y_BTD in instead.items()]
    with torch.inference_mode(), hooked(*told):
        return trace(model, tokens_NT, []).logits_BTV


def read_with(model: Model, tokens_NT: Tensor, layer: int, instead: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
    """What the MLP of a layer reads and writes above layers that are told what to return."""
    told = [(model.anatomy.blocks[below].mlp, lambda *_, y=y_BTD: y) for below, y_BTD in instead.items()]
    with hooked(*told):
        held = hook_activations(model, tokens_NT, {(layer, "mlp.in"), (layer, "mlp.out")})
    return held[layer, "mlp.in"], held[layer, "mlp.out"]


def below_position_0(y_BTD: Tensor, instead_BTD: Tensor) -> Tensor:
    return torch.cat([y_BTD[:, :1], instead_BTD[:, 1:]], 1)


def test_a_cross_layer_transcoder_is_measured_as_it_is_defined(rows: Rows) -> None:
    model, coders, tokens_NT = toy_model(), {layer: cross_layer(layer) for layer in LAYERS}, rows[:]
    found = evaluate(model, coders, rows, tokens=TOKENS, rows_per_batch=3)
    assert found.all_replaced is not None

    seen = trace(model, tokens_NT, LAYERS)
    for metrics in found.coders:
        y_BTD, y_hat_BTD = seen.mlp_out[metrics.layer], written_to(metrics.layer, seen.mlp_in, coders)
        y_ND = y_BTD[:, 1:].flatten(0, 1)
        error = (y_BTD - y_hat_BTD)[:, 1:].square().sum() / (y_ND - y_ND.mean(0)).square().sum()
        spliced = run(model, tokens_NT, {metrics.layer: below_position_0(y_BTD, y_hat_BTD)})
        assert metrics.fvu == pytest.approx(float(error), rel=1e-10)
        assert metrics.ce_spliced == pytest.approx(by_hand(spliced, tokens_NT), rel=1e-10)

    x: dict[int, Tensor] = {}
    instead: dict[int, Tensor] = {}
    for layer, inside in zip(LAYERS, found.all_replaced.layers, strict=True):
        x[layer], y_BTD = read_with(model, tokens_NT, layer, instead)
        y_hat_BTD = written_to(layer, x, coders)
        y_ND = y_BTD[:, 1:].flatten(0, 1)
        error = (y_BTD - y_hat_BTD)[:, 1:].square().sum() / (y_ND - y_ND.mean(0)).square().sum()
        active = (x[layer] @ coders[layer].W_enc.T + coders[layer].b_enc > 0)[:, 1:].sum(-1).double().mean()
        instead[layer] = below_position_0(y_BTD, y_hat_BTD)
        assert inside.layer == layer
        assert inside.fvu == pytest.approx(float(error), rel=1e-10)
        assert inside.l0 == pytest.approx(float(active), rel=1e-12)
    assert found.all_replaced.ce_spliced == pytest.approx(by_hand(run(model, tokens_NT, instead), tokens_NT), rel=1e-10)

    mean = {layer: y_BTD[:, 1:].flatten(0, 1).mean(0).expand_as(y_BTD) for layer, y_BTD in seen.mlp_out.items()}
    nothing = {layer: torch.zeros_like(y_BTD) for layer, y_BTD in seen.mlp_out.items()}
    for ce, other in ((found.all_replaced.ce_mean, mean), (found.all_replaced.ce_zero, nothing)):
        kept = {layer: below_position_0(y_BTD, other[layer]) for layer, y_BTD in seen.mlp_out.items()}
        assert ce == pytest.approx(by_hand(run(model, tokens_NT, kept), tokens_NT), rel=1e-10)

    with pytest.raises(InvalidSpec, match="all coders of a cross-layer transcoder"):
        evaluate(model, {1: coders[1]}, rows, tokens=TOKENS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_of_one_at_once_is_that_coder_alone(family: str, rows: Rows) -> None:
    """E7. One way goes on from cached residual streams, the other through hooks of a whole pass."""
    model, tokens_NT = family_model(family), rows[:]
    for kind, hook_in, hook_out in ROUTES:
        coder: Any = make(kind, hook_in, hook_out)  # type: ignore[arg-type]
        (alone,) = evaluate(model, {coder.layer: coder}, rows, tokens=TOKENS).coders
        held = hook_activations(model, tokens_NT, {(coder.layer, hook_out)})[coder.layer, hook_out]
        together = Together({coder.layer: coder}, {coder.layer: held[:, 1:].mean((0, 1))}, mean_ablation=True)
        batch = Batch(tokens_NT)
        together.update(model, batch, Predictions(model, batch, trace(model, tokens_NT, []).logits_BTV))
        at_once = together.metrics("row")
        assert alone.ce_spliced != pytest.approx(alone.ce_original, abs=1e-4), "the splice matters"
        for name in set(AllReplaced.model_fields) - {"attention", "layers", "intervals"}:
            assert getattr(at_once, name) == pytest.approx(getattr(alone, name), rel=1e-5), (kind, hook_out, name)
        (inside,) = at_once.layers
        assert (inside.layer, inside.l0) == (alone.layer, alone.l0)
        assert inside.fvu == pytest.approx(alone.fvu, rel=1e-9)


def test_exact_stand_ins_for_all_layers_change_nothing(rows: Rows) -> None:
    """E1, and E7: inside a model that computes the same, L0 is the same."""
    coders = {layer: random_coder(layer, n_features=30, k=30, scale=0.3) for layer in LAYERS}
    model = toy_model()
    for layer, coder in coders.items():
        model.hf.set_submodule(f"model.layers.{layer}.mlp", ReluMlp(coder))
        object.__setattr__(model.anatomy.blocks[layer], "mlp", model.hf.get_submodule(f"model.layers.{layer}.mlp"))
    found = evaluate(model, coders, rows, tokens=TOKENS)
    at_once = found.all_replaced
    assert at_once is not None
    assert at_once.ce_spliced == pytest.approx(at_once.ce_original, abs=1e-12)
    assert at_once.kl == pytest.approx(0, abs=1e-12)
    assert at_once.agreement == 1
    assert at_once.loss_recovered_zero == pytest.approx(1, abs=1e-9)
    assert [each.l0 for each in at_once.layers] == [each.l0 for each in found.coders]
    assert max(each.fvu for each in at_once.layers) < 1e-25


def test_what_reads_after_it_writes_is_measured_alone_only(rows: Rows) -> None:
    coder = make("transcoder", "resid", "mlp.out")
    found = evaluate(toy_model(), {0: random_coder(0), coder.layer: coder}, rows, tokens=TOKENS)
    assert len(found.coders) == 2
    assert found.all_replaced is None
    reading_late = replaced(toy_model(), {1: coder.hooks}, Batch(rows[:]).counted_BT, lambda _layer, _x_ND, y_ND: y_ND)
    with pytest.raises(ValueError, match="before it has read"), reading_late:
        pass


def test_a_replacement_is_gone_afterwards_whatever_happened(rows: Rows) -> None:
    """E5."""
    model, tokens_NT, hooks = toy_model(), rows[:], dict.fromkeys((0, 1), ("mlp.in", "mlp.out"))
    counted_BT = Batch(tokens_NT).counted_BT
    given: list[Tensor] = []

    def logits() -> Tensor:
        return trace(model, tokens_NT, []).logits_BTV

    def zero(_layer: int, _x_ND: Tensor, y_ND: Tensor) -> Tensor:
        return torch.zeros_like(y_ND)

    def one(_layer: int, _x_ND: Tensor, y_ND: Tensor) -> Tensor:
        given.append(y_ND)
        return torch.ones_like(y_ND)

    def broken(layer: int, _x_ND: Tensor, y_ND: Tensor) -> Tensor:
        raise RuntimeError(layer, y_ND.shape)

    before = logits()
    with replaced(model, hooks, counted_BT, zero):
        outer = logits()
        with replaced(model, {1: hooks[1]}, counted_BT, one):
            assert not torch.equal(logits(), outer)
        assert not given[0].any(), "the inner one is given what the outer one wrote"
        assert torch.equal(logits(), outer)
        with pytest.raises(RuntimeError), replaced(model, hooks, counted_BT, broken):
            logits()
        assert torch.equal(logits(), outer)
    assert not torch.equal(outer, before)
    assert torch.equal(outer[:, 0], before[:, 0]), "position 0 keeps what it holds"
    assert torch.equal(logits(), before)
    assert given[0].shape == (N_ROWS * (CONTEXT - 1), D)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())

"""Folds and rescalings leave the function of a coder as it was."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clew.coders.formats.random_coders import cross_layer, dense, inputs, outputs, random_coder
from tests.clew.families import FAMILIES, family_model
from tests.clew.toys import toy_model, toy_tokens

from clew.coders import Coder
from clew.coders.fitting import fit_to_model
from clew.coders.folding import rescale
from clew.models import hook_activations
from clew.models.recording import hooked, read_by
from clew_spec.coders import Kind
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science


def normed(coder: Coder) -> Coder:
    """The same weights, said to be of what the norm makes before its gain."""
    hooks = {"hook_in": "mlp.normed"} | ({"hook_out": "mlp.normed"} if coder.config.kind == "sae" else {})
    return Coder.of(coder.config.model_copy(update=hooks), coder.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gemma3"])
@pytest.mark.parametrize(
    ("kind", "centred"), [("transcoder", False), ("skip-transcoder", False), ("sae", False), ("sae", True)]
)
def test_a_gain_is_folded_into_what_reads_before_it(kind: Kind, centred: bool, name: str) -> None:
    assert name in FAMILIES
    model = family_model(name)
    coder = normed(random_coder(kind, "relu", centred=centred, hook="mlp.in", dtype=torch.float64, d=model.d_model))
    norm = model.anatomy.blocks[1].mlp_norm
    read: list[torch.Tensor] = []
    with hooked((norm.module, lambda _module, args, kwargs, _output: read.append(read_by(args, kwargs)))):
        mlp_in_ND = hook_activations(model, toy_tokens(20)[None], [(1, "mlp.in")])[1, "mlp.in"][0]
    x_ND = read[0][0] - read[0][0].mean(-1, keepdim=True) if norm.centred else read[0][0]
    n_ND = x_ND * norm.scale(x_ND)

    (fitted,) = fit_to_model([coder], model)
    assert fitted.hooks == ("mlp.in", "mlp.in" if kind == "sae" else "mlp.out")
    torch.testing.assert_close(dense(fitted, mlp_in_ND), dense(coder, n_ND))
    expected = coder.forward(n_ND)
    if kind == "sae":
        expected = expected * norm.gain_D + (0 if norm.bias_D is None else norm.bias_D)
    torch.testing.assert_close(fitted.forward(mlp_in_ND), expected)


def test_what_a_module_returns_is_what_is_added_unless_a_norm_stands_between() -> None:
    coder = random_coder("sae", "topk", hook="mlp.returned", d=24)
    (fitted,) = fit_to_model([coder], family_model("llama"))
    assert fitted.hooks == ("mlp.out", "mlp.out")
    with pytest.raises(InvalidSpec, match="before its post-norm"):
        fit_to_model([coder], family_model("gemma2"))


def test_outputs_less_their_mean_are_refused_where_a_norm_would_see_it() -> None:
    plain = random_coder(d=24)
    coder = Coder.of(plain.config.model_copy(update={"output_centred": True}), plain.parameters())
    assert fit_to_model([coder], family_model("gpt2")) == [coder]
    with pytest.raises(InvalidSpec, match="less their mean over dimensions"):
        fit_to_model([coder], family_model("llama"))


def test_what_the_model_does_not_have_is_refused() -> None:
    model = toy_model(n_layers=2)
    with pytest.raises(InvalidSpec, match="no layer 2"):
        fit_to_model([random_coder(layer=2, d=24)], model)
    with pytest.raises(InvalidSpec, match="no layer 2"):
        fit_to_model(cross_layer(3)[:1], model)
    with pytest.raises(InvalidSpec, match="maps 6 to 6 dimensions"):
        fit_to_model([random_coder(layer=1)], model)


@given(st.integers(0, 1000), st.sampled_from(["relu", "jumprelu"]), st.sampled_from(["transcoder", "sae"]))
def test_rescaled_features_write_the_same(seed: int, activation: str, kind: str) -> None:
    """A2: outputs and what each feature writes stay; activations are in the new unit."""
    coder = random_coder(kind, activation, dtype=torch.float64, seed=seed)  # type: ignore[arg-type]
    factor_F = torch.rand(coder.config.n_features, dtype=torch.float64) * 3 + 0.1
    scaled, x_ND = rescale(coder, factor_F), inputs(dtype=torch.float64)
    torch.testing.assert_close(dense(scaled, x_ND), dense(coder, x_ND) * factor_F)
    written = dense(coder, x_ND)[:, :, None] * coder.W_dec
    torch.testing.assert_close(dense(scaled, x_ND)[:, :, None] * scaled.W_dec, written)
    torch.testing.assert_close(scaled.forward(x_ND), coder.forward(x_ND))


def test_rescaling_a_cross_layer_transcoder_rescales_all_it_writes() -> None:
    coders = [coder.to(dtype=torch.float64) for coder in cross_layer()]
    scaled = [rescale(coder, torch.full((coder.config.n_features,), 3.0)) for coder in coders]
    x_ND = inputs(dtype=torch.float64)
    for after, before in zip(outputs(scaled, x_ND), outputs(coders, x_ND), strict=True):
        torch.testing.assert_close(after, before)

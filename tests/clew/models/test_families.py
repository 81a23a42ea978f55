"""Every family: its anatomy is proven, what is read is what the model computes, and a wrong description is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.clew.families import FAMILIES, LAYERS, VOCAB, WINDOW, family_hf, family_model
from tests.clew.toys import toy_tokenizer, toy_tokens

from clew.models import (
    Anatomy,
    Model,
    import_model,
    load_model,
    logits_from,
    mlp_activations,
    prepare_model,
    record,
    trace,
)
from clew.models.anatomy import Block, Norm
from clew.models.proof import prove
from clew.reporting import Silent
from clew_spec.errors import ModelError

TOKENS_BT = torch.stack([toy_tokens(9, seed=s) for s in range(2)])

_MODELS: dict[str, Model] = {}


def model_of(family: str) -> Model:
    if family not in _MODELS:
        _MODELS[family] = family_model(family)
    return _MODELS[family]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return model_of(request.param)


def test_the_anatomy_is_proven_to_rounding(model: Model) -> None:
    assert model.proof.logit_scale > 0
    assert model.proof.max_abs_logit_difference <= 1e-12 * model.proof.logit_scale


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_proven_to_its_own_rounding(family: str) -> None:
    proof = family_model(family, dtype=torch.float32).proof
    assert proof.max_abs_logit_difference <= 1e-5 * proof.logit_scale


@pytest.mark.parametrize("family", FAMILIES)
def test_preparing_changes_nothing_but_the_rounding_of_norms(family: str) -> None:
    for dtype, tolerance in ((torch.float32, 0.0), (torch.float64, 1e-5)):
        plain = family_hf(family, dtype=dtype).train(False)
        plain.set_attn_implementation("eager")
        with torch.inference_mode():
            expected = plain(input_ids=TOKENS_BT, use_cache=False).logits
            logits = family_model(family, dtype=dtype).hf(input_ids=TOKENS_BT, use_cache=False).logits
        torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)


def test_what_is_read_is_what_the_block_adds_up(model: Model) -> None:
    with torch.inference_mode():
        states = model.hf(input_ids=TOKENS_BT, use_cache=False, output_hidden_states=True).hidden_states
    seen = trace(model, TOKENS_BT, range(LAYERS))
    found = mlp_activations(model, TOKENS_BT, range(LAYERS))
    for layer, block in enumerate(model.anatomy.blocks):
        torch.testing.assert_close(found[layer].x_BTD, seen.mlp_in[layer], atol=0, rtol=0)
        torch.testing.assert_close(found[layer].y_BTD, seen.mlp_out[layer], atol=0, rtol=0)
        written = block.mlp(seen.mlp_in[layer])
        if block.mlp_post_norm is not None:
            written = block.mlp_post_norm.module(written)
        torch.testing.assert_close(written, seen.mlp_out[layer], atol=1e-12, rtol=0)
        if layer + 1 < LAYERS:  # the last of Hugging Face's hidden states is the normed one
            after = seen.resid_mid[layer] + seen.mlp_out[layer]
            torch.testing.assert_close(after, states[layer + 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_splice_equals_a_whole_pass_with_the_output_replaced(model: Model, layer: int) -> None:
    seen = trace(model, TOKENS_BT, [layer])
    with torch.inference_mode():
        clean = model.hf(input_ids=TOKENS_BT, use_cache=False).logits
    torch.testing.assert_close(seen.logits_BTV, clean, atol=0, rtol=0)
    torch.testing.assert_close(logits_from(model, seen, layer, seen.mlp_out[layer]), clean, atol=1e-10, rtol=0)

    other = torch.randn(seen.mlp_out[layer].shape, dtype=model.dtype, generator=torch.Generator().manual_seed(layer))
    handle = model.anatomy.blocks[layer].mlp_writer.register_forward_hook(lambda *_: other)
    with torch.inference_mode():
        expected = model.hf(input_ids=TOKENS_BT, use_cache=False).logits
    handle.remove()
    torch.testing.assert_close(logits_from(model, seen, layer, other), expected, atol=1e-6, rtol=0)
    assert (expected - clean).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["mistral", "qwen2", "gemma2", "gemma3"])
def test_sliding_windows_are_in_the_patterns(family: str) -> None:
    model = model_of(family)
    layers = record(model.hf, model.anatomy, TOKENS_BT[0]).layers
    for layer in (0, 2):
        assert not layers[layer].pattern_HTT.tril(-WINDOW).any()
    if family != "mistral":
        assert layers[1].pattern_HTT.tril(-WINDOW).any()


def test_learned_positions_are_recorded_apart_from_tokens() -> None:
    model = model_of("gpt2")
    hf: Any = model.hf
    seen = record(hf, model.anatomy, TOKENS_BT[0])
    assert seen.position_TD is not None
    assert seen.position_TD.equal(hf.transformer.wpe.weight[:9])
    assert seen.embed_TD.equal(hf.transformer.wte.weight[TOKENS_BT[0]])


def test_the_cap_is_applied_to_what_the_proof_compares() -> None:
    model = model_of("gemma2")
    seen = record(model.hf, model.anatomy, TOKENS_BT[0])
    torch.testing.assert_close((seen.uncapped_TV / 3).tanh() * 3, seen.logits_TV, atol=1e-12, rtol=0)
    assert (seen.uncapped_TV - seen.logits_TV).abs().max() > 1e-2
    assert model.proof.logit_scale > 3


def _each_block(**changes: Any) -> Callable[[Anatomy], Anatomy]:
    return lambda a: replace(a, blocks=tuple(replace(block, **changes) for block in a.blocks))


def _attention(**changes: Any) -> Callable[[Anatomy], Anatomy]:
    def change(block: Block) -> Block:
        return replace(block, attention=replace(block.attention, **changes))

    return lambda a: replace(a, blocks=(*a.blocks[:-1], change(a.blocks[-1])))


def _norm(name: str, **changes: Any) -> Callable[[Anatomy], Anatomy]:
    def change(anatomy: Anatomy) -> Anatomy:
        if name == "final_norm":
            return replace(anatomy, final_norm=replace(anatomy.final_norm, **changes))
        middle: Any = anatomy.blocks[1]
        norm: Norm = getattr(middle, name)
        blocks = (anatomy.blocks[0], replace(middle, **{name: replace(norm, **changes)}), *anatomy.blocks[2:])
        return replace(anatomy, blocks=blocks)

    return change


def _values_of_the_wrong_layout(anatomy: Anatomy) -> Anatomy:
    """All queries, all keys, all values: GPT-2's layout read from GPT-NeoX's matrix."""
    first = anatomy.blocks[0]
    fused: Any = first.attention.module.query_key_value
    heads = first.attention.W_V_KED.shape[:2]
    wrong = replace(first.attention, W_V_KED=fused.weight[48:].unflatten(0, heads))
    return replace(anatomy, blocks=(replace(first, attention=wrong), *anatomy.blocks[1:]))


MUTATIONS: dict[str, tuple[str, Callable[[Anatomy], Anatomy], str]] = {
    "no post-norm after attention": ("gemma2", _each_block(attn_post_norm=None), "MLP inputs of layer 0"),
    "no post-norm after the MLP": ("gemma3", _each_block(mlp_post_norm=None), "MLP inputs of layer 1"),
    "gain without its 1": ("gemma2", _norm("mlp_norm", offset=0.0), "MLP inputs of layer 1"),
    "gain with a 1 too many": ("llama", _norm("attn_norm", offset=1.0), "MLP inputs of layer 1"),
    "post-norm's gain": ("gemma3", _norm("attn_post_norm", offset=0.0), "MLP inputs of layer 1"),
    "final gain": ("gemma3", _norm("final_norm", offset=0.0), "the logits"),
    "no cap": ("gemma2", lambda a: replace(a, logit_cap=None), "capped as described"),
    "another cap": ("gemma3", lambda a: replace(a, logit_cap=3.1), "capped as described"),
    "no mean subtracted": ("gpt2", _norm("mlp_norm", centred=False), "MLP inputs of layer 1"),
    "norm bias before attention": ("gpt2", _norm("attn_norm", bias_D=None), "MLP inputs of layer 1"),
    "norm bias before the MLP": ("neox-parallel", _norm("mlp_norm", bias_D=None), "MLP inputs of layer 1"),
    "final norm bias": ("gpt2", _norm("final_norm", bias_D=None), "the logits"),
    "value bias": ("qwen2", _attention(b_V_KE=None), "MLP inputs of layer 2"),
    "output bias": ("gpt2", _attention(b_O_D=None), "MLP inputs of layer 2"),
    "output bias of the last layer": ("neox-parallel", _attention(b_O_D=None), "the logits"),
    "no positions": ("gpt2", lambda a: replace(a, position_embed=None), "MLP inputs of layer 0"),
    "parallel taken for sequential": ("neox-parallel", _each_block(parallel=False), "MLP inputs of layer 0"),
    "sequential taken for parallel": ("neox-sequential", _each_block(parallel=True), "MLP inputs of layer 0"),
    "fused layout": ("neox-sequential", _values_of_the_wrong_layout, "MLP inputs of layer 0"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_wrong_description_is_refused(mutation: str, dtype: torch.dtype) -> None:
    family, change, where = MUTATIONS[mutation]
    model = model_of(family) if dtype == torch.float64 else family_model(family, dtype=dtype)
    prove(model.hf, model.anatomy)
    with pytest.raises(ModelError, match=where):
        prove(model.hf, change(model.anatomy))


def test_attention_in_both_directions_is_refused() -> None:
    hf: Any = family_hf("gemma3")
    hf.config.use_bidirectional_attention = True
    with pytest.raises(ModelError, match="looks at later tokens"):
        prepare_model(hf)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_imported_and_loads_as_it_was(family: str, tmp_path: Any) -> None:
    hf = family_hf(family, dtype=torch.float32)
    hf.save_pretrained(tmp_path / "roots" / "m")
    toy_tokenizer().save_pretrained(tmp_path / "roots" / "m")
    imported = import_model(tmp_path / "roots" / "m", tmp_path / "out", roots=[tmp_path / "roots"], report=Silent())
    assert imported.config.architecture == type(hf).__name__
    assert (imported.config.n_layers, imported.config.d_model, imported.config.d_mlp) == (LAYERS, 24, 40)
    assert (imported.config.vocab_size, imported.config.max_context, imported.config.n_heads) == (VOCAB, 48, 4)
    model = load_model(tmp_path / "out")
    expected = family_model(family, dtype=torch.float32)
    with torch.inference_mode():
        assert model.hf(input_ids=TOKENS_BT).logits.equal(expected.hf(input_ids=TOKENS_BT).logits)


def _gpt2_of_the_hub(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the prefix, and with masks that were once stored."""
    masks = {"h.0.attn.bias": torch.ones(1, 1, 48, 48).tril()}
    return {name.removeprefix("transformer."): weight for name, weight in weights.items()} | masks


def _pythia_of_the_hub(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the unembedding under its old name, and with masks and frequencies that were once stored."""
    attention = "gpt_neox.layers.0.attention"
    masks = {f"{attention}.bias": torch.ones(1, 1, 48, 48).tril(), f"{attention}.masked_bias": torch.tensor(-1e9)}
    renamed = {name.replace("lm_head", "embed_out"): weight for name, weight in weights.items()}
    return renamed | masks | {f"{attention}.rotary_emb.inv_freq": torch.ones(2)}


@pytest.mark.parametrize(("family", "older"), [("gpt2", _gpt2_of_the_hub), ("neox-parallel", _pythia_of_the_hub)])
def test_folders_of_older_layouts_are_imported(family: str, older: Any, tmp_path: Any) -> None:
    folder = tmp_path / "roots" / "m"
    family_hf(family, dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    weights = {name: weight.clone() for name, weight in older(load_file(folder / "model.safetensors")).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    import_model(folder, tmp_path / "out", roots=[tmp_path / "roots"], report=Silent())
    expected = family_model(family, dtype=torch.float32)
    with torch.inference_mode():
        logits = load_model(tmp_path / "out").hf(input_ids=TOKENS_BT).logits
        assert logits.equal(expected.hf(input_ids=TOKENS_BT).logits)

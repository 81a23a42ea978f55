"""What is written in a peer's format is read back as the same function; what the peer could not hold is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.clew.coders.formats.random_coders import GIVEN, cross_layer, inputs, outputs, random_coder

from clew.coders import Coder
from clew.coders.formats import FORMATS, detect, read_coders, write_coders
from clew_spec.errors import ClewError, DataError, InvalidSpec
from clew_spec.formats import ExportFormat, require_sayable
from clew_spec.results import Lineage

pytestmark = pytest.mark.science

LINEAGE = Lineage(code_version="test")


def per_layer(kind: str, activation: str, **options: object) -> list[Coder]:
    return [random_coder(kind, activation, layer=layer, **options) for layer in range(2)]  # type: ignore[arg-type]


SAYABLE: list[tuple[ExportFormat, list[Coder]]] = [
    *(
        ("saelens", per_layer("sae", activation, centred=True))
        for activation in ("relu", "topk", "jumprelu", "batchtopk")
    ),
    ("saelens", per_layer("sae", "topk", hook="resid")),
    *(("saelens", per_layer("transcoder", activation)) for activation in ("relu", "jumprelu", "batchtopk")),
    *(("saelens", per_layer("skip-transcoder", activation)) for activation in ("relu", "jumprelu")),
    *(("sparsify", per_layer("sae", "topk", centred=centred)) for centred in (False, True)),
    ("sparsify", per_layer("sae", "topk", hook="resid", centred=True)),
    *(("sparsify", per_layer(kind, "topk")) for kind in ("transcoder", "skip-transcoder")),
    *(("circuit-tracer", per_layer("transcoder", activation)) for activation in ("relu", "jumprelu", "batchtopk")),
    ("circuit-tracer", per_layer("skip-transcoder", "jumprelu")),
    *(("circuit-tracer", cross_layer(3, activation)) for activation in ("relu", "jumprelu", "batchtopk")),
    *(("clew", per_layer(kind, "topk")) for kind in ("transcoder", "skip-transcoder", "sae")),
    ("clew", cross_layer(3, "topk", skip=True)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("format", "coders"), SAYABLE)
def test_what_comes_back_is_the_same_function(
    format: ExportFormat, coders: list[Coder], dtype: torch.dtype, tmp_path: Path
) -> None:
    coders = [coder.to(dtype=dtype) for coder in coders]
    folder = tmp_path / "set"
    write_coders(coders, folder, format, lineage=LINEAGE)
    assert detect(folder) == format
    found = read_coders(folder, GIVEN)
    for coder, again in zip(coders, found, strict=True):
        assert (again.layer, again.config.kind) == (coder.layer, coder.config.kind)
        assert again.hooks == (coder.hooks if format != "sparsify" else _as_modules(coder.hooks))
        assert again.config.dtype == str(dtype).removeprefix("torch.")
        assert again.W_enc.dtype == dtype
    # A bias that was folded is rounded once.
    exact = not (format == "sparsify" and coders[0].config.kind == "sae" and not coders[0].config.centred)
    near = 0.0 if exact else None
    if exact or dtype != torch.bfloat16:
        x_ND = inputs(dtype=dtype)
        for expected, output in zip(outputs(coders, x_ND), outputs(found, x_ND), strict=True):
            torch.testing.assert_close(output, expected, rtol=near, atol=near)


def _as_modules(hooks: tuple[str, str]) -> tuple[str, ...]:
    """A module's output is not said to be what is added to the residual stream: the model decides that."""
    return tuple("mlp.returned" if hook == "mlp.out" else hook for hook in hooks)


def test_layouts_are_those_of_the_peers(tmp_path: Path) -> None:
    coder = random_coder("skip-transcoder", "jumprelu", layer=0)
    W_enc, W_skip = coder.parameters()["W_enc"], coder.parameters()["W_skip"]
    write_coders([coder], tmp_path / "saelens", "saelens", lineage=LINEAGE)
    saelens = load_file(tmp_path / "saelens" / "L00" / "sae_weights.safetensors")
    assert torch.equal(saelens["W_enc"], W_enc.T)
    assert torch.equal(saelens["W_skip"], W_skip)
    write_coders([coder], tmp_path / "tracer", "circuit-tracer", lineage=LINEAGE)
    tracer = load_file(tmp_path / "tracer" / "layer_0.safetensors")
    assert sorted(tracer) == ["W_dec", "W_enc", "W_skip", "activation_function.threshold", "b_dec", "b_enc"]
    assert torch.equal(tracer["W_enc"], W_enc)
    coders = cross_layer(3)
    write_coders(coders, tmp_path / "clt", "circuit-tracer", lineage=LINEAGE)
    W_dec = load_file(tmp_path / "clt" / "W_dec_1.safetensors")["W_dec_1"]
    assert torch.equal(W_dec[:, 0], coders[1].W_dec)
    assert torch.equal(W_dec[:, 1], coders[1].W_later[2])


@pytest.mark.parametrize(
    ("format", "coders", "said"),
    [
        ("circuit-tracer", per_layer("transcoder", "topk"), "read the TopK of layer 0 as ReLU"),
        ("circuit-tracer", per_layer("sae", "relu"), "it has no SAEs"),
        ("circuit-tracer", cross_layer(3, skip=True), "drops skip paths"),
        ("circuit-tracer", per_layer("transcoder", "relu")[1:], r"a set for the layers \[1\]"),
        ("circuit-tracer", cross_layer(3)[:2], "write to the layers"),
        ("saelens", per_layer("transcoder", "topk"), "no transcoder with topk"),
        ("saelens", cross_layer(3), "no cross-layer transcoders"),
        ("sparsify", per_layer("transcoder", "jumprelu"), "TopK alone"),
        ("sparsify", cross_layer(3, "topk"), "no cross-layer transcoders"),
        ("sparsify", per_layer("sae", "topk", hook="mlp.in"), "does not read mlp.in"),
    ],
)
def test_what_a_peer_would_misread_is_refused(
    format: ExportFormat, coders: list[Coder], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSpec, match=said):
        write_coders(coders, tmp_path / "set", format, lineage=LINEAGE)
    assert list(tmp_path.iterdir()) == [], "nothing is half-written"


def test_sparsify_has_no_place_behind_a_post_norm() -> None:
    config = random_coder().config
    require_sayable("sparsify", config)
    with pytest.raises(InvalidSpec, match="norm after it"):
        require_sayable("sparsify", config, post_norm=True)


@pytest.mark.parametrize("format", ["saelens", "sparsify", "circuit-tracer"])
def test_damage_and_leftovers_are_refused(format: ExportFormat, tmp_path: Path) -> None:
    """Cutting or dropping any file, or adding a tensor, is found."""
    coders = [random_coder("sae" if format != "circuit-tracer" else "transcoder", "topk", layer=0)]
    if format == "circuit-tracer":
        coders = [random_coder("transcoder", "jumprelu", layer=0)]
    write_coders(coders, tmp_path / "whole", format, lineage=LINEAGE)
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*") if path.is_file()]
    assert len(files) == 2
    for file in files:
        write_coders(coders, tmp_path / "cut", format, lineage=LINEAGE)
        path = tmp_path / "cut" / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ClewError):
            read_coders(tmp_path / "cut", GIVEN, format)
        path.unlink()
        with pytest.raises(ClewError):
            read_coders(tmp_path / "cut", GIVEN, format)


OPTIONS = [
    ("saelens", {"normalize_activations": "expected_average_only_in"}, "normalize_activations"),
    ("saelens", {"normalize_activations": "layer_norm"}, "normalize_activations"),
    ("saelens", {"reshape_activations": "hook_z"}, "reshape_activations"),
    ("saelens", {"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
    ("saelens", {"architecture": "gated"}, "architecture"),
    ("saelens", {"use_magic": True}, "use_magic"),
    ("saelens", {"metadata": {"hook_head_index": 3}}, "hook_head_index"),
    ("saelens", {"metadata": {"model_from_pretrained_kwargs": {"fold_ln": True}}}, "model_from_pretrained_kwargs"),
    ("saelens", {"metadata": {"hook_name": "blocks.1.hook_mlp_out", "prepend_bos": True}}, "prepend_bos"),
    ("saelens", {"metadata": {"hook_name": "blocks.1.attn.hook_z"}}, "attn.hook_z"),
    ("sparsify", {"multi_topk": True}, "multi_topk"),
    ("sparsify", {"activation": "groupmax"}, "activation"),
    ("sparsify", {"skip_connection": True}, "skip_connection"),
    ("sparsify", {"post_encoder_scale": True}, "post_encoder_scale"),
    ("sparsify", {"k": 25}, "k = 25"),
]


@pytest.mark.parametrize(("format", "options", "said"), OPTIONS)
def test_options_that_are_not_implemented_are_named(
    format: ExportFormat, options: dict[str, object], said: str, tmp_path: Path
) -> None:
    write_coders([random_coder("sae", "topk", centred=True)], tmp_path / "set", format, lineage=LINEAGE)
    (path,) = (tmp_path / "set").rglob("cfg.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    with pytest.raises(DataError, match=said):
        read_coders(tmp_path / "set", GIVEN)


def test_a_transcoder_is_not_centred(tmp_path: Path) -> None:
    write_coders([random_coder("transcoder", "relu")], tmp_path / "set", "saelens", lineage=LINEAGE)
    (path,) = (tmp_path / "set").rglob("cfg.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"apply_b_dec_to_input": True}))
    with pytest.raises(DataError, match="apply_b_dec_to_input"):
        read_coders(tmp_path / "set", GIVEN)


def test_a_format_is_known_by_its_files_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known format") as caught:
        detect(tmp_path)
    assert all(name in str(caught.value.expected) for name in FORMATS)
    write_coders([random_coder("sae", "topk")], tmp_path / "a", "saelens", lineage=LINEAGE)
    write_coders([random_coder("sae", "topk")], tmp_path / "b", "sparsify", lineage=LINEAGE)
    with pytest.raises(DataError, match="looks like saelens and sparsify"):
        detect(tmp_path)
    with pytest.raises(DataError, match="no coders of the format circuit-tracer"):
        read_coders(tmp_path / "a", GIVEN, "circuit-tracer")
    write_coders([random_coder("sae", "topk")], tmp_path / "a2", "saelens", lineage=LINEAGE)
    with pytest.raises(DataError, match="two coders for layer 1"):
        read_coders(tmp_path, GIVEN, "saelens")

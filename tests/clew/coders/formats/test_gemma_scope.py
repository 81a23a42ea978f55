"""Gemma Scope's coders, in files as they are published, compute what their formula says."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.clew.coders.formats.random_coders import GIVEN, D, F, dense, inputs, outputs
from torch import Tensor

from clew.coders.formats import Given, detect, read_coders
from clew_spec.errors import DataError

pytestmark = pytest.mark.science

UNSAID = Given(**{**vars(GIVEN), "bos": "bos"})


def params(layer: int = 0, *, n_layers: int | None = None, affine: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(layer)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = {"w_enc": normal(D, F), "b_enc": normal(F), "b_dec": normal(D), "threshold": normal(F)}
    found["w_dec"] = normal(F, D) if n_layers is None else normal(F, n_layers, D)
    return found | ({"affine_skip_connection": normal(D, D)} if affine else {})


def active(found: dict[str, Tensor], x_ND: Tensor) -> Tensor:
    pre_NF = x_ND @ found["w_enc"] + found["b_enc"]
    return pre_NF.relu() * (pre_NF > found["threshold"])


def first(folder: Path, found: dict[str, Tensor], **more: Any) -> Path:
    folder.mkdir(parents=True)
    arrays = {name.replace("w_", "W_"): weight.numpy() for name, weight in found.items()}
    np.savez(folder / "params.npz", allow_pickle=False, **arrays, **more)
    return folder


def second(folder: Path, found: dict[str, Tensor], reads: str, writes: str, **more: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(found, folder / "params.safetensors")
    names = {"hf_hook_point_in": f"model.layers.7.{reads}", "hf_hook_point_out": f"model.layers.7.{writes}"}
    cfg = {"architecture": "jump_relu", "width": F, "l0": 7, "affine_connection": False, "type": "x", "model_name": "x"}
    (folder / "config.json").write_text(json.dumps(cfg | names | more))
    return folder


@pytest.mark.parametrize(
    ("repository", "kind", "hooks"),
    [
        ("gemma-scope-2b-pt-transcoders", "transcoder", ("mlp.normed", "mlp.out")),
        ("gemma-scope-2b-pt-res", "sae", ("resid", "resid")),
        ("gemma-scope-9b-pt-mlp", "sae", ("mlp.out", "mlp.out")),
    ],
)
def test_version_1(repository: str, kind: str, hooks: tuple[str, str], tmp_path: Path) -> None:
    found = params()
    first(tmp_path / repository / "layer_12" / "width_16k" / "average_l0_82", found)
    assert detect(tmp_path / repository) == "gemma-scope"
    for path in (tmp_path / repository, *tmp_path.rglob("params.npz")):
        (coder,) = read_coders(path, UNSAID)
        assert (coder.layer, coder.config.kind, coder.hooks) == (12, kind, hooks)
        assert not coder.config.centred
        x_ND = inputs(dtype=torch.float64)
        torch.testing.assert_close(dense(coder, x_ND), active(found, x_ND))
        torch.testing.assert_close(coder.forward(x_ND), active(found, x_ND) @ found["w_dec"] + found["b_dec"])


@pytest.mark.parametrize("affine", [False, True])
def test_version_2(affine: bool, tmp_path: Path) -> None:
    found = params(affine=affine)
    hooks = "pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"
    second(tmp_path / "layer_7", found, *hooks, affine_connection=affine)
    (coder,) = read_coders(tmp_path, UNSAID)
    assert (coder.layer, coder.hooks) == (7, ("mlp.in", "mlp.out"))
    assert coder.config.kind == ("skip-transcoder" if affine else "transcoder")
    x_ND = inputs(dtype=torch.float64)
    expected = active(found, x_ND) @ found["w_dec"] + found["b_dec"]
    expected = expected + x_ND @ found["affine_skip_connection"] if affine else expected
    torch.testing.assert_close(coder.forward(x_ND), expected)


def test_an_sae_of_version_2(tmp_path: Path) -> None:
    second(tmp_path / "layer_7", params(), "output", "output")
    (coder,) = read_coders(tmp_path, UNSAID)
    assert (coder.layer, coder.config.kind, coder.hooks) == (7, "sae", ("resid", "resid"))


def test_a_cross_layer_transcoder_of_version_2(tmp_path: Path) -> None:
    """All of its layers are read, the last one too, and its skip path is used untransposed."""
    n_layers = 11
    found = [params(layer, n_layers=n_layers, affine=True) for layer in range(n_layers)]
    for layer, weights in enumerate(found):
        save_file(weights, tmp_path / f"params_layer_{layer}.safetensors")
    coders = read_coders(tmp_path, UNSAID)
    assert [coder.layer for coder in coders] == list(range(n_layers))
    x_ND = inputs(dtype=torch.float64)
    for layer, output in enumerate(outputs(coders, x_ND)):
        expected = found[layer]["b_dec"] + x_ND @ found[layer]["affine_skip_connection"]
        for below in range(layer + 1):
            expected = expected + active(found[below], x_ND) @ found[below]["w_dec"][:, layer]
        torch.testing.assert_close(output, expected)
    (tmp_path / "params_layer_3.safetensors").unlink()
    with pytest.raises(DataError, match="has the layers"):
        read_coders(tmp_path, UNSAID)


def test_what_is_not_said_is_asked_for(tmp_path: Path) -> None:
    first(tmp_path / "somewhere", params())
    with pytest.raises(DataError, match="does not say what its coder reads"):
        read_coders(tmp_path, UNSAID)
    stated = Given(**{**vars(UNSAID), "layer": 3, "hook_in": "resid", "hook_out": "resid"})
    (coder,) = read_coders(tmp_path, stated)
    assert (coder.layer, coder.config.kind) == (3, "sae")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"architecture": "topk"}, "architecture"),
        ({"input_scale": 3.0}, "input_scale"),
        ({"affine_connection": True}, "affine connection"),
        ({"hf_hook_point_in": "model.layers.7.self_attn.o_proj.input"}, "self_attn"),
    ],
)
def test_what_is_not_implemented_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    second(tmp_path / "x", params(), "output", "output", **more)
    with pytest.raises(DataError, match=said):
        read_coders(tmp_path, UNSAID)


def test_a_finetuned_scale_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    first(tmp_path / "a" / "layer_1-res", params(), scaling_factor=np.full(F, 2.0))
    with pytest.raises(DataError, match="scaling_factor"):
        read_coders(tmp_path / "a", UNSAID)
    folder = tmp_path / "b" / "layer_1-res"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", W_enc=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        read_coders(tmp_path / "b", UNSAID)


@pytest.mark.parametrize("trick", ["packed", "header"])
def test_a_small_file_of_large_arrays_is_refused_before_it_is_unpacked(trick: str, tmp_path: Path) -> None:
    folder = tmp_path / "layer_1-res"
    folder.mkdir()
    if trick == "packed":
        np.savez_compressed(folder / "params.npz", W_enc=np.zeros((2**11, 2**13)))
    else:
        header = io.BytesIO()
        shape = {"descr": "<f8", "fortran_order": False, "shape": (2**12, 2**12)}
        np.lib.format.write_array_header_1_0(header, shape)
        with ZipFile(folder / "params.npz", "w") as archive:
            archive.writestr("W_enc.npy", header.getvalue() + bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"unpacks to more than|says that it is larger than it is"):
            read_coders(tmp_path, UNSAID)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22, "of 128 MB"

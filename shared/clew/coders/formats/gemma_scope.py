"""Gemma Scope: JumpReLU coders of all layers of Gemma 2 (version 1) and Gemma 3 (version 2).

Version 1 has a folder a coder with `params.npz`: `W_enc` [D, F], `W_dec` [F, D], `b_enc`, `b_dec`, `threshold` [F]; its
transcoders read what the MLP's norm makes before its gain. Version 2 has `params.safetensors` with the same in lower
case and `config.json`; its transcoders read after the gain, and `affine_skip_connection` [D, D] is used as `x @` it.
A cross-layer transcoder has a `params_layer_{i}.safetensors` a layer, whose `w_dec` [F, L, D] has a slot for each layer
of the model; those below its own are of no use. What is written is what is added to the residual stream.
"""

import math
import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from torch import Tensor

from clew.coders.coder import Coder, decoder_name
from clew.coders.formats.parts import (
    NOWHERE,
    Form,
    Given,
    Place,
    coder,
    exactly,
    jumprelu,
    only,
    read_json,
    read_tensors,
    unpacks,
)
from clew_spec.coders import Kind
from clew_spec.errors import DataError

FIRST, SECOND, CONFIG_FILE = "params.npz", "params.safetensors", "config.json"
_OF_LAYER = re.compile(r"^params_layer_(\d+)\.safetensors$")
_LAYER = re.compile(r"layer_(\d+)")

CONFIG: Mapping[str, Collection[Any] | None] = {
    "architecture": ("jump_relu",),
    "type": None,
    "model_name": None,
    "hf_hook_point_in": None,
    "hf_hook_point_out": None,
    "affine_connection": None,
    "width": None,
    "l0": None,
}
MODULES = {
    "pre_feedforward_layernorm.output": "mlp.in",
    "post_feedforward_layernorm.output": "mlp.out",
    "output": "resid",
}
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MODULE = re.compile(r"^model\.(?:language_model\.)?layers\.(\d+)\.(.+)$")
SITES: dict[str, tuple[Kind, str, str]] = {
    "transcoders": ("transcoder", "mlp.normed", "mlp.out"),
    "res": ("sae", "resid", "resid"),
    "mlp": ("sae", "mlp.out", "mlp.out"),
}
"""By the end of the name of the repository that a folder of version 1 lies in."""


def recognises(path: Path) -> bool:
    if path.is_file():
        return path.name in (FIRST, SECOND)
    return path.is_dir() and (any((path / name).is_file() for name in (FIRST, SECOND)) or bool(_layers(path)))


def _layers(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.iterdir() if (match := _OF_LAYER.match(path.name))}


def read(path: Path, given: Given) -> list[Coder]:
    """Raises DataError for weights that are not those of such a coder, and what `coder` raises."""
    folder = path.parent if path.is_file() else path
    if (folder / FIRST).is_file():
        return [_first(folder, given)]
    if (folder / CONFIG_FILE).is_file():
        only(read_json(folder / CONFIG_FILE), CONFIG, path=folder / CONFIG_FILE)
    if (folder / SECOND).is_file():
        return [_second(folder, given)]
    return _cross_layer(folder, given)


def _first(folder: Path, given: Given) -> Coder:
    path = folder / FIRST
    try:
        unpacks(path)
        with ZipFile(path) as archive:
            for entry in archive.infolist():
                _no_larger(archive, entry)
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read: {error}", expected="arrays without objects") from error
    scale = found.pop("scaling_factor", None)
    if scale is not None and not bool((scale == 1).all()):
        raise DataError(f"{path.name} has a scaling_factor, which is not implemented", expected="none, or ones")
    exactly(found, ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"), path=path)
    kind, place = _site(folder, given)
    return _coder(found, kind, place, given, path)


def _no_larger(archive: ZipFile, entry: ZipInfo) -> None:
    """Raises ValueError where an array says that it is larger than its entry: room is made for it before it is read."""
    with archive.open(entry) as file:
        header = HEADERS.get(np.lib.format.read_magic(file))
        if header is None:
            raise ValueError(f"{entry.filename} is of a version that no such file has")
        shape, _, dtype = header(file)
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} says that it is larger than it is")


def _site(folder: Path, given: Given) -> tuple[Kind, Place]:
    match = _LAYER.search(str(folder))
    layer = int(match[1]) if match else None
    if given.hook_in is not None and given.hook_out is not None:
        return ("sae" if given.hook_in == given.hook_out else "transcoder"), Place(layer, None, None)
    for part in reversed(folder.parts):
        if (site := SITES.get(part.rpartition("-")[2])) is not None:
            kind, *hooks = site
            return kind, Place(layer, *hooks)
    raise DataError(
        f"{folder.name} does not say what its coder reads",
        expected=f"a folder above it that ends in -{', -'.join(SITES)}",
        hint="or state hook_in and hook_out",
    )


def _second(folder: Path, given: Given) -> Coder:
    path = folder / SECOND
    found = read_tensors(path)
    exactly(found, ("w_enc", "b_enc", "w_dec", "b_dec", "threshold"), optional=("affine_skip_connection",), path=path)
    cfg = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    place = _named_place(cfg) if cfg and None in (given.layer, given.hook_in, given.hook_out) else NOWHERE
    skip = "affine_skip_connection" in found
    if bool(cfg.get("affine_connection", skip)) != skip:
        raise DataError(f"{CONFIG_FILE} and {SECOND} do not agree whether there is an affine connection")
    hook_in, hook_out = given.hook_in or place.hook_in, given.hook_out or place.hook_out
    kind: Kind = "skip-transcoder" if skip else "sae" if hook_out in (None, hook_in) else "transcoder"
    return _coder(_upper(found), kind, place, given, path)


def _named_place(cfg: Mapping[str, Any]) -> Place:
    reads = _named_hook(cfg.get("hf_hook_point_in"))
    writes = _named_hook(cfg.get("hf_hook_point_out") or cfg.get("hf_hook_point_in"))
    if reads[0] != writes[0]:
        raise DataError(f"{CONFIG_FILE} names a coder of the layers {reads[0]} and {writes[0]}")
    return Place(*reads, writes[1])


def _named_hook(name: Any) -> tuple[int, str]:
    match = _MODULE.match(str(name))
    if match is None or match[2] not in MODULES:
        raise DataError(f"there is no coder for what {name!r} holds", expected=f"model.layers.3.{', '.join(MODULES)}")
    return int(match[1]), MODULES[match[2]]


def _cross_layer(folder: Path, given: Given) -> list[Coder]:
    layers = dict(sorted(_layers(folder).items()))
    if list(layers) != list(range(len(layers))):
        raise DataError(f"{folder.name} has the layers {list(layers)}", expected="all layers from 0")
    coders = []
    for layer, path in layers.items():
        found = read_tensors(path)
        exactly(
            found, ("w_enc", "b_enc", "w_dec", "b_dec", "threshold"), optional=("affine_skip_connection",), path=path
        )
        w_dec_FLD = found["w_dec"]
        if w_dec_FLD.dim() != 3 or w_dec_FLD.shape[1] != len(layers):
            raise DataError(
                f"w_dec of {path.name} has the shape {tuple(w_dec_FLD.shape)}", expected=f"[F, {len(layers)}, D]"
            )
        weights = _upper(found) | {"W_dec": w_dec_FLD[:, layer]}
        weights |= {decoder_name(later): w_dec_FLD[:, later] for later in range(layer + 1, len(layers))}
        coders.append(_coder(weights, "cross-layer-transcoder", Place(layer, "mlp.in", "mlp.out"), given, path))
    return coders


def _upper(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {name.replace("w_", "W_"): weight for name, weight in found.items() if name != "affine_skip_connection"}
    if (affine := found.get("affine_skip_connection")) is not None:
        weights["W_skip"] = affine.T
    return weights


def _coder(weights: dict[str, Tensor], kind: Kind, place: Place, given: Given, path: Path) -> Coder:
    activation, threshold_F = jumprelu(weights["threshold"])
    weights |= {"W_enc": weights["W_enc"].T, "threshold": threshold_F}
    later = tuple(int(name[-2:]) for name in weights if name.startswith("W_dec_L"))
    form = Form(kind, activation, skip="W_skip" in weights and kind == "cross-layer-transcoder", later_layers=later)
    return coder(weights, form, place, given, path=path)

"""circuit-tracer: all layers of a model in one folder with `config.yaml` (0.5).

A set of transcoders has `layer_{i}.safetensors` with `W_enc` [F, D], `W_dec` [F, D], `b_enc`, `b_dec`, for JumpReLU
`activation_function.threshold` [F], and `W_skip` [D, D] as `x @ W_skip.T`. A cross-layer transcoder has
`W_enc_{i}.safetensors` with `W_enc_{i}`, `b_enc_{i}`, `b_dec_{i}`, `threshold_{i}`, and `W_dec_{i}.safetensors` with
`W_dec_{i}` [F, L - i, D], slot 0 being layer i's own. Layers are 0 .. L-1 and as wide as each other. Nothing says TopK,
and of a cross-layer transcoder nothing holds a skip path: whatever is written so is read back as something else.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from clew.coders.coder import LATER, Coder, decoder_name
from clew.coders.formats.hooks import TRANSFORMER_LENS, lens_hook
from clew.coders.formats.parts import Form, Given, Place, coder, exactly, only, read_tensors, stored, thresholds
from clew.coders.reconstruction import require_whole
from clew.files import whole_folder
from clew_spec.coders import Activation, JumpReLU, ReLU, TopK
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.formats import require_set_sayable

CONFIG_FILE = "config.yaml"
PER_LAYER, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"
THRESHOLD = "activation_function.threshold"

CONFIG: Mapping[str, Collection[Any] | None] = {
    "model_kind": (PER_LAYER, CROSS_LAYER),
    "model_name": None,
    "scan": None,
    "revision": None,
    "feature_input_hook": None,
    "feature_output_hook": None,
    "activation": ("relu",),
}
FILES = {PER_LAYER: re.compile(r"^layer_(\d+)\.safetensors$"), CROSS_LAYER: re.compile(r"^W_enc_(\d+)\.safetensors$")}


def recognises(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def read(folder: Path, given: Given) -> list[Coder]:
    """Raises DataError for an option that is not implemented, for missing layers, and what `coder` raises."""
    path = folder / CONFIG_FILE
    try:
        cfg = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(cfg, dict) or cfg.get("model_kind") not in FILES:
        raise DataError(f"{path.name} has no model_kind", expected=" or ".join(FILES))
    only(cfg, CONFIG, path=path)
    if given.layer is not None:
        raise DataError(f"{folder.name} has a coder for each layer, and layer {given.layer} was stated for all")
    hooks = [given.hook_in or _hook(cfg, "feature_input_hook"), given.hook_out or _hook(cfg, "feature_output_hook")]
    layers = _layers(folder, FILES[cfg["model_kind"]])
    read_layer = _read_cross_layer if cfg["model_kind"] == CROSS_LAYER else _read_per_layer
    return [read_layer(folder, Place(layer, *hooks), given, len(layers)) for layer in layers]


def _hook(cfg: Mapping[str, Any], key: str) -> str:
    name = cfg.get(key)
    if name not in TRANSFORMER_LENS:
        raise DataError(f"{CONFIG_FILE} has {key} = {name!r}", expected=" or ".join(TRANSFORMER_LENS))
    return TRANSFORMER_LENS[name]


def _layers(folder: Path, name: re.Pattern[str]) -> list[int]:
    layers = sorted(int(match[1]) for path in folder.iterdir() if (match := name.match(path.name)))
    if not layers or layers != list(range(len(layers))):
        raise DataError(f"{folder.name} has files for the layers {layers}", expected="all layers from 0")
    return layers


def _read_per_layer(folder: Path, place: Place, given: Given, _n_layers: int) -> Coder:
    path = folder / f"layer_{place.layer}.safetensors"
    weights = read_tensors(path)
    exactly(weights, ("W_enc", "b_enc", "W_dec", "b_dec"), optional=(THRESHOLD, "W_skip"), path=path)
    form = Form("skip-transcoder" if "W_skip" in weights else "transcoder", _threshold(weights, THRESHOLD, path))
    return coder(weights, form, place, given, path=path)


def _read_cross_layer(folder: Path, place: Place, given: Given, n_layers: int) -> Coder:
    layer = place.layer or 0
    path, path_dec = (folder / f"{name}_{layer}.safetensors" for name in ("W_enc", "W_dec"))
    found, decoders = read_tensors(path), read_tensors(path_dec)
    exactly(
        found, [f"{name}_{layer}" for name in ("W_enc", "b_enc", "b_dec")], optional=[f"threshold_{layer}"], path=path
    )
    exactly(decoders, [f"W_dec_{layer}"], path=path_dec)
    W_dec_FLD = decoders[f"W_dec_{layer}"]
    if W_dec_FLD.dim() != 3 or W_dec_FLD.shape[1] != n_layers - layer:
        raise DataError(f"W_dec_{layer} has the shape {tuple(W_dec_FLD.shape)}", expected=f"[F, {n_layers - layer}, D]")
    weights = {name.removesuffix(f"_{layer}"): weight for name, weight in found.items()} | {"W_dec": W_dec_FLD[:, 0]}
    later = range(layer + 1, n_layers)
    weights |= {decoder_name(each): W_dec_FLD[:, each - layer] for each in later}
    form = Form("cross-layer-transcoder", _threshold(weights, "threshold", path), later_layers=tuple(later))
    return coder(weights, form, place, given, path=path)


def _threshold(weights: dict[str, Tensor], name: str, path: Path) -> Activation:
    """Moves the threshold to its name here. Pre-activations are not rectified there."""
    if name not in weights:
        return ReLU()
    weights["threshold"] = weights.pop(name)
    if weights["threshold"].min() < 0:
        raise DataError(f"{path.name} has thresholds below 0", expected="features that are never negative")
    return JumpReLU()


def write(coders: Sequence[Coder], folder: Path, *, model_name: str = "unknown", scan: str | None = None) -> None:
    """Raises InvalidSpec for coders that circuit-tracer would misread, or that leave out layers below the highest.

    model_name: what circuit-tracer loads the model by. scan: what it calls the set, its folder's name if not given.
    """
    _require_one_set(coders)
    config = coders[0].config
    cross = config.kind == "cross-layer-transcoder"
    cfg = {
        "model_kind": CROSS_LAYER if cross else PER_LAYER,
        "model_name": model_name,
        "scan": scan or folder.name,
        "feature_input_hook": lens_hook(config.hook_in),
        "feature_output_hook": lens_hook(config.hook_out),
    }
    write_layer: Callable[[Coder, Path], None] = _write_cross_layer if cross else _write_per_layer
    with whole_folder(folder) as fresh:
        (fresh / CONFIG_FILE).write_text(yaml.safe_dump(cfg, sort_keys=False))
        for each in coders:
            write_layer(each, fresh)


def _require_one_set(coders: Sequence[Coder]) -> None:
    require_set_sayable("circuit-tracer", [each.config for each in coders])
    for each in coders:
        if isinstance(each.config.activation, TopK):
            raise InvalidSpec(
                f"circuit-tracer would read the TopK of layer {each.layer} as ReLU", hint="calibrate thresholds first"
            )
    require_whole({each.layer: each for each in coders})


def _write_per_layer(each: Coder, folder: Path) -> None:
    weights = {name: weight for name, weight in each.parameters().items() if name != "threshold"}
    if (threshold_F := thresholds(each)) is not None:
        weights[THRESHOLD] = threshold_F
    stored(weights, folder / f"layer_{each.layer}.safetensors")


def _write_cross_layer(each: Coder, folder: Path) -> None:
    own = {
        name: weight for name, weight in each.parameters().items() if not name.startswith((LATER, "W_dec", "thresh"))
    }
    if (threshold_F := thresholds(each)) is not None:
        own["threshold"] = threshold_F
    stored({f"{name}_{each.layer}": w for name, w in own.items()}, folder / f"W_enc_{each.layer}.safetensors")
    W_dec_FLD = torch.stack([each.W_dec, *(each.W_later[later] for later in each.config.later_layers)], dim=1)
    stored({f"W_dec_{each.layer}": W_dec_FLD}, folder / f"W_dec_{each.layer}.safetensors")

"""SAELens: a folder a coder with `cfg.json` and `sae_weights.safetensors` (6.54).

`W_enc` [d_in, F], `W_dec` [F, d_out], `b_enc`, `b_dec`, `threshold` [F] of JumpReLU, `W_skip` [d_out, d_in] as `x @
W_skip.T`. An SAE subtracts `b_dec` from its input where `apply_b_dec_to_input` is set; a transcoder cannot.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clew.coders.coder import Coder
from clew.coders.folding import rescale
from clew.coders.formats.hooks import lens_hooks, read_hooks
from clew.coders.formats.parts import (
    NOWHERE,
    Form,
    Given,
    coder,
    exactly,
    jumprelu,
    only,
    read_json,
    read_tensors,
    stored,
    thresholds,
    write_json,
)
from clew.files import whole_folder
from clew_spec.coders import Activation, Kind, ReLU, TopK
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.formats import require_sayable

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

ARCHITECTURES: dict[str, tuple[Kind, str]] = {
    "standard": ("sae", "relu"),
    "topk": ("sae", "topk"),
    "jumprelu": ("sae", "jumprelu"),
    "transcoder": ("transcoder", "relu"),
    "jumprelu_transcoder": ("transcoder", "jumprelu"),
    "skip_transcoder": ("skip-transcoder", "relu"),
    "jumprelu_skip_transcoder": ("skip-transcoder", "jumprelu"),
}
"""Those that can be read and written: kind and activation."""

OFF: tuple[Any, ...] = (None, False, {}, "none")
NOT_OF_USE = (
    *("model_name", "model_class_name", "hook_name", "hook_name_out", "hook_layer", "hook_layer_out", "hf_hook_name"),
    *("hf_hook_name_out", "prepend_bos", "context_size", "seqpos_slice", "exclude_special_tokens", "neuronpedia_id"),
    *("dataset_path", "dataset_trust_remote_code", "sae_lens_version", "sae_lens_training_version"),
    *("training_architecture", "training_architecture_details"),
)
"""Keys that say where a coder comes from and belongs, or how it was trained."""
METADATA: Mapping[str, Collection[Any] | None] = {
    **dict.fromkeys(NOT_OF_USE),
    "hook_head_index": OFF,
    "hook_head_index_out": OFF,
    "model_from_pretrained_kwargs": OFF,
}
CONFIG: Mapping[str, Collection[Any] | None] = {
    **dict.fromkeys(("d_in", "d_out", "d_sae", "dtype", "device", "metadata")),
    "architecture": tuple(ARCHITECTURES),
    "apply_b_dec_to_input": None,
    "k": None,
    "rescale_acts_by_decoder_norm": None,
    "normalize_activations": OFF,
    "reshape_activations": OFF,
    "finetuning_scaling_factor": OFF,
    "activation_fn": ("relu",),
    "activation_fn_str": ("relu",),
    "activation_fn_kwargs": OFF,
}


def recognises(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read(folder: Path, given: Given) -> list[Coder]:
    """Raises DataError for an architecture or option that is not implemented, and what `coder` raises."""
    path = folder / CONFIG_FILE
    cfg = {"architecture": "standard"} | read_json(path)
    # Before 6.0 everything lay side by side.
    metadata = cfg["metadata"] if isinstance(cfg.get("metadata"), dict) else cfg
    only(cfg, CONFIG if metadata is not cfg else {**METADATA, **CONFIG}, path=path)
    only(metadata, METADATA if metadata is not cfg else {**METADATA, **CONFIG}, path=path)
    if metadata.get("prepend_bos") and given.bos == "none":
        raise DataError(f"{path.name} has prepend_bos = true, and bos = none was stated", expected="bos")
    kind, activation = ARCHITECTURES[cfg["architecture"]]
    centred = bool(cfg.get("apply_b_dec_to_input", kind == "sae"))
    if centred and kind != "sae":
        raise DataError(f"{path.name} has apply_b_dec_to_input = true", expected=f"false of a {kind}")

    found = read_tensors(folder / WEIGHTS_FILE)
    extra = ["threshold"] * (activation == "jumprelu") + ["W_skip"] * (kind == "skip-transcoder")
    exactly(found, ["W_enc", "b_enc", "W_dec", "b_dec", *extra], path=folder / WEIGHTS_FILE)
    weights = found | {"W_enc": found["W_enc"].T}
    of_coder = _activation(activation, cfg, weights, path)
    names = metadata.get("hook_name"), metadata.get("hook_name_out")
    place = read_hooks(*names) if _unsaid(given, kind) else NOWHERE
    found_coder = coder(weights, Form(kind, of_coder, centred=centred), place, given, path=folder)
    # Features that compete in units of their decoders are those of the same coder with decoder rows of norm 1.
    if isinstance(of_coder, TopK) and cfg.get("rescale_acts_by_decoder_norm"):
        norm_F = found_coder.W_dec.norm(dim=-1).clamp_min(torch.finfo(found_coder.W_dec.dtype).tiny)
        return [rescale(found_coder, norm_F)]
    return [found_coder]


def _unsaid(given: Given, kind: Kind) -> bool:
    """Whether the names in the file are needed: those of places unknown to us are no fault where others are stated."""
    hooks = (given.hook_in,) if kind == "sae" else (given.hook_in, given.hook_out)
    return given.layer is None or None in hooks


def _activation(name: str, cfg: Mapping[str, Any], weights: dict[str, Tensor], path: Path) -> Activation:
    """What the architecture's name stands for. A threshold below 0 becomes 0."""
    if name == "jumprelu":
        activation, weights["threshold"] = jumprelu(weights["threshold"])
        return activation
    if name == "relu":
        return ReLU()
    k = cfg.get("k")
    if not isinstance(k, int) or not 1 <= k <= len(weights["b_enc"]):
        raise DataError(f"{path.name} has k = {k!r}", expected="a number of features")
    return TopK(k=k)


def write(coders: Sequence[Coder], folder: Path) -> None:
    """`folder/L03`, ... Raises InvalidSpec for a coder that SAELens has no architecture for."""
    with whole_folder(folder) as fresh:
        for each in coders:
            require_sayable("saelens", each.config)
            _write(each, fresh / f"L{each.layer:02d}")


def _write(each: Coder, folder: Path) -> None:
    config, threshold = each.config, thresholds(each)
    activation = config.activation.kind if threshold is None else "jumprelu"
    names = [name for name, form in ARCHITECTURES.items() if form == (config.kind, activation)]
    if not names:
        raise InvalidSpec(f"SAELens has no {config.kind} with {activation}", hint="calibrate thresholds first")
    reads, writes = lens_hooks(config)
    metadata = {"hook_name": reads, "prepend_bos": config.bos != "none"}
    cfg: dict[str, Any] = {
        "architecture": names[0],
        "d_in": config.d_in,
        "d_sae": config.n_features,
        "dtype": config.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": config.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if config.kind != "sae":
        cfg |= {"d_out": config.d_out}
        metadata |= {"hook_name_out": writes}
    if isinstance(config.activation, TopK):
        cfg |= {"k": config.activation.k, "rescale_acts_by_decoder_norm": False}
    weights = {"W_enc": each.W_enc.T, "W_dec": each.W_dec, "b_enc": each.b_enc, "b_dec": each.b_dec}
    weights |= {"threshold": threshold} if threshold is not None else {}
    weights |= {"W_skip": each.W_skip} if each.W_skip is not None else {}
    folder.mkdir(parents=True)
    stored(weights, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, cfg | {"metadata": metadata})

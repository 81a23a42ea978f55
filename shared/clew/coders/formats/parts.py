"""What the readers and writers of all formats share."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clew.coders.coder import Coder
from clew_spec.coders import Activation, BatchTopK, CoderConfig, JumpReLU, Kind
from clew_spec.errors import DataError
from clew_spec.losses import LossSpec

UNPACKED_TIMES = 4


@dataclass(frozen=True)
class Given:
    """What files of other projects do not say of their coders. What it says of place overrides what they say."""

    model_digest: str
    tokenizer_digest: str
    bos: str
    dataset_digest: str | None = None
    layer: int | None = None
    hook_in: str | None = None
    hook_out: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a coder reads and writes, as far as its files say."""

    layer: int | None
    hook_in: str | None
    hook_out: str | None


NOWHERE = Place(None, None, None)


@dataclass(frozen=True)
class Form:
    """What a coder is, whatever its place."""

    kind: Kind
    activation: Activation
    centred: bool = False
    skip: bool = False
    later_layers: tuple[int, ...] = ()
    output_centred: bool = False
    loss: LossSpec | None = None


def coder(weights: Mapping[str, Tensor], form: Form, place: Place, given: Given, *, path: Path) -> Coder:
    """From weights in the canonical layout, in their own dtype. Raises DataError where its place is not known."""
    layer = place.layer if given.layer is None else given.layer
    hook_in, hook_out = given.hook_in or place.hook_in, given.hook_out or place.hook_out
    if form.kind == "sae":
        hook_in, hook_out = hook_in or hook_out, hook_out or hook_in
    said = {"layer": layer, "hook_in": hook_in, "hook_out": hook_out}
    if unsaid := [name for name, value in said.items() if value is None]:
        raise DataError(f"the files of {path.name} do not say {' and '.join(unsaid)}", hint="state what they leave out")
    W_enc, W_dec = weights["W_enc"], weights["W_dec"]
    config = CoderConfig(
        kind=form.kind,
        activation=form.activation,
        n_features=W_enc.shape[0],
        d_in=W_enc.shape[-1],
        d_out=W_dec.shape[-1],
        layer=layer or 0,
        later_layers=list(form.later_layers),
        skip=form.skip,
        hook_in=hook_in or "",
        hook_out=hook_out or "",
        centred=form.centred,
        output_centred=form.output_centred,
        loss=form.loss,
        dtype=str(W_enc.dtype).removeprefix("torch."),
        model_digest=given.model_digest,
        tokenizer_digest=given.tokenizer_digest,
        dataset_digest=given.dataset_digest,
        bos=given.bos,
    )
    return Coder.of(config, {name: weight.contiguous() for name, weight in weights.items()})


def read_json(path: Path) -> dict[str, Any]:
    """Raises DataError where `path` does not hold a JSON object."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", expected="a JSON object") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no JSON object")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises DataError where `path` is not a whole safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", expected="a safetensors file") from error


def unpacks(path: Path) -> None:
    """Raises DataError where the entries of a zip file are, by what they say, much larger than the file: it was made to
    fill memory. Readers take no more of an entry than it says."""
    with ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > UNPACKED_TIMES * path.stat().st_size:
        raise DataError(
            f"{path.name} unpacks to more than {UNPACKED_TIMES} times its size",
            expected="weights, which compression hardly makes smaller",
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def exactly(found: Mapping[str, Tensor], names: Collection[str], *, optional: Collection[str] = (), path: Path) -> None:
    """Raises DataError unless `found` holds all of `names`, perhaps some of `optional`, and nothing else."""
    missing, unknown = set(names) - set(found), set(found) - set(names) - set(optional)
    if missing or unknown:
        wrong = f"lacks {', '.join(sorted(missing))}" if missing else f"also holds {', '.join(sorted(unknown))}"
        raise DataError(f"{path.name} {wrong}", expected=", ".join([*names, *(f"perhaps {name}" for name in optional)]))


def only(cfg: Mapping[str, Any], known: Mapping[str, Collection[Any] | None], *, path: Path) -> None:
    """Raises DataError where `cfg` has a key that is not among `known`, or a value that is not among those of its key.

    Keys whose values are None may hold anything: they are read elsewhere, or of no effect in use.
    """
    for key, value in cfg.items():
        if key not in known:
            raise DataError(f"{path.name} has the key {key!r}, of which nothing is known", expected=", ".join(known))
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise DataError(
                f"{path.name} asks for {key} = {value!r}, which is not implemented",
                expected=" or ".join(repr(each) for each in allowed),
            )


def jumprelu(threshold_F: Tensor) -> tuple[Activation, Tensor]:
    """Of a `relu(pre) * 1[pre > threshold]`: a threshold below 0 is the same as one of 0."""
    return JumpReLU(), threshold_F.clamp_min(0)


def thresholds(each: Coder) -> Tensor | None:
    """[F] of coders whose features have one, BatchTopK's being the same for all; None of others."""
    if each.threshold is None:
        return None
    if isinstance(each.config.activation, BatchTopK):
        return each.threshold.expand(each.config.n_features)
    return each.threshold


def stored(weights: Mapping[str, Tensor], path: Path) -> None:
    """To a safetensors file: on the CPU, contiguous, none sharing memory with another."""
    copies = {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format) for name, weight in weights.items()
    }
    save_file(copies, path)

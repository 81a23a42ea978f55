"""Checkpoints of the code of "Transcoders Find Interpretable LLM Feature Circuits" (arXiv 2406.11944).

A `.pt` file is a pickled `{cfg: LanguageModelSAERunnerConfig, state_dict}`: `W_enc` [d_in, F], `W_dec` [F, d_out],
`b_enc`, `b_dec` [d_in], and of transcoders `b_dec_out` [d_out]. `z = relu((x - b_dec) W_enc + b_enc)`, and `y_hat` is
`z W_dec + b_dec_out`. A transcoder is brought to `relu(x W_enc + b_enc - b_dec W_enc)`, the same function. Its model
had been folded: it reads what the MLP's norm makes before its gain and bias, and writes outputs less their mean.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from clew.coders.coder import Coder
from clew.coders.folding import fold_centre
from clew.coders.formats.hooks import read_hooks
from clew.coders.formats.parts import NOWHERE, Form, Given, coder, exactly, unpacks
from clew_spec.coders import ReLU
from clew_spec.errors import DataError
from clew_spec.losses import LossSpec

SUFFIX = ".pt"
NOT_CODERS = re.compile(r"log_feature_sparsity\.pt$|^(trainer_|rank_\d+_)?state\.pt$|^(optimizer|lr_scheduler)_")
"""What this code, SAELens and sparsify put beside coders."""
CONFIG_CLASS = "sae_training.config.LanguageModelSAERunnerConfig"
"""The only class besides torch's own that such a pickle may name. It is given the one below instead."""

UNREADABLE = (UnpicklingError, BadZipFile, OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError)
"""What a file that is not of `torch.save` makes its reader raise."""


class RunnerConfig:
    """Holds what the checkpoint's `cfg` held; it has no code to run."""


# The unpickler looks the class of an instance up under its own name before it restores the attributes.
RunnerConfig.__module__, _, RunnerConfig.__qualname__ = CONFIG_CLASS.rpartition(".")


def recognises(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return [each for each in found if each.is_file() and each.suffix == SUFFIX and not NOT_CODERS.search(each.name)]


def read(path: Path, given: Given) -> list[Coder]:
    """Raises DataError for a file that holds more than tensors and that configuration, and what `coder` raises."""
    return [_read(file, given) for file in _files(path)]


def _read(path: Path, given: Given) -> Coder:
    cfg, weights = _load(path)
    is_transcoder = bool(cfg.get("is_transcoder"))
    if cfg.get("hook_point_head_index") is not None:
        raise DataError(f"{path.name} has hook_point_head_index = {cfg['hook_point_head_index']}", expected="None")
    exactly(weights, ("W_enc", "b_enc", "W_dec", "b_dec", *(("b_dec_out",) if is_transcoder else ())), path=path)
    weights["W_enc"] = weights["W_enc"].T
    if is_transcoder:
        weights["b_enc"] = fold_centre(weights["W_enc"], weights["b_enc"], weights["b_dec"])
        weights["b_dec"] = weights.pop("b_dec_out")
    form = Form(
        kind="transcoder" if is_transcoder else "sae",
        activation=ReLU(),
        centred=not is_transcoder,
        output_centred=True,
        loss=_loss(cfg.get("l1_coefficient")),
    )
    named = None in (given.layer, given.hook_in, given.hook_out)
    place = (
        read_hooks(cfg.get("hook_point"), cfg.get("out_hook_point") if is_transcoder else None) if named else NOWHERE
    )
    return coder(weights, form, place, given, path=path)


def _load(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        unpacks(path)
        with torch.serialization.safe_globals([RunnerConfig]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise DataError(
            f"{path.name} cannot be read: {str(error).splitlines()[0]}",
            expected=f"a pickle of tensors and {CONFIG_CLASS}, which is all that may be in it",
        ) from error
    cfg = content.get("cfg") if isinstance(content, dict) else None
    weights = content.get("state_dict") if isinstance(content, dict) else None
    tensors = isinstance(weights, dict) and all(isinstance(weight, Tensor) for weight in weights.values())
    if not isinstance(cfg, RunnerConfig) or not isinstance(weights, dict) or not tensors:
        raise DataError(f"{path.name} holds something else", expected="a cfg and a state_dict of tensors")
    for name, weight in weights.items():
        # One number can be read as a tensor of any size.
        if weight.layout != torch.strided or weight.nbytes > weight.untyped_storage().nbytes():
            raise DataError(f"{path.name} holds less than {name} says", expected="whole tensors")
    return vars(cfg), dict(weights)


def _loss(l1_coefficient: Any) -> LossSpec | None:
    if not isinstance(l1_coefficient, int | float) or not 0 <= l1_coefficient < float("inf"):
        return None
    return LossSpec(fidelity="norm-scaled", sparsity="l1", sparsity_weight=float(l1_coefficient))

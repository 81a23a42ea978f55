"""A run, stopped: a file for each coder with weights and what its optimiser remembers; `state.json` has the rest."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clew.coders import Coder
from clew.files import file_sha256, whole_folder
from clew.training.optimizer import Units, learned
from clew_spec.base import Digest
from clew_spec.coders import CoderConfig
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.training import TrainSpec

STATE_FILE = "state.json"
Memory = dict[str, dict[str, Tensor]]
"""What an optimiser remembers of each parameter, by name: Adam two moments, Adafactor means of squares."""
SILENCE = "silence.tokens"


class CoderState(BaseModel):
    model_config = ConfigDict(extra="forbid")

    config: CoderConfig
    units: Units
    fvu_first: float
    """Held-out, before the first step."""
    fvu_last: float
    """Held-out, at the newest evaluation."""


class RunState(BaseModel):
    """All of a run that is not a tensor. Rates and rows are functions of the spec and the step, so no RNG is kept."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["clew-checkpoint/3"] = "clew-checkpoint/3"
    spec: TrainSpec
    model_digest: str
    dataset_digest: str
    step: int = 0
    """Optimiser steps that are complete."""
    epoch: int = 0
    cursor: int = 0
    """Where the next step begins: the row within the order of its epoch."""
    shrink: int = 1
    """By how much batches are taken in smaller parts, since memory ran out. Rounding depends on it."""
    coders: dict[str, CoderState]
    """By key: `L03`, `L03.k16`."""
    files: dict[str, Digest] = {}


def write_checkpoint(
    folder: Path,
    state: RunState,
    coders: dict[str, Coder],
    silence: dict[str, Tensor],
    memory: dict[str, Memory],
) -> None:
    """Write `folder`, whole or not at all. `silence` is int64 [F] of the coders that count it."""
    with whole_folder(folder) as fresh:
        files = {}
        for key, coder in coders.items():
            tensors = {name: parameter.cpu() for name, parameter in coder.parameters().items()}
            for name, remembered in memory[key].items():
                tensors |= {f"{name}.{what}": tensor.cpu() for what, tensor in remembered.items()}
            if key in silence:
                tensors[SILENCE] = silence[key].cpu()
            save_file(tensors, fresh / _file(key))
            files[_file(key)] = file_sha256(fresh / _file(key))
        whole = state.model_copy(update={"files": files})
        (fresh / STATE_FILE).write_text(whole.model_dump_json(indent=1) + "\n")


def read_checkpoint(
    folder: Path, *, spec: TrainSpec, model_digest: str, dataset_digest: str, device: torch.device
) -> tuple[RunState, dict[str, Coder], dict[str, Tensor], dict[str, Memory]]:
    """The state, and by key the coders, how long features were silent, and what optimisers remember.

    Raises:
        DataError: a file is missing or damaged.
        InvalidSpec: the checkpoint is of another run.
    """
    try:
        state = RunState.model_validate_json((folder / STATE_FILE).read_text())
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(f"the checkpoint in {folder.name} cannot be read: {error}") from error
    if (state.spec, state.model_digest, state.dataset_digest) != (spec, model_digest, dataset_digest):
        raise InvalidSpec(
            "the checkpoint is of another run", expected="the spec, model and dataset that it was begun with"
        )
    coders: dict[str, Coder] = {}
    silence: dict[str, Tensor] = {}
    memory: dict[str, Memory] = {}
    for key, of_coder in state.coders.items():
        path = folder / _file(key)
        if not path.is_file() or file_sha256(path) != state.files.get(path.name):
            raise DataError(f"{path.name} of the checkpoint is missing, changed or cut short")
        try:
            # Matrix products round by alignment: copies have that of fresh tensors, views of the file have any.
            tensors = {name: tensor.clone() for name, tensor in load_file(path, device=str(device)).items()}
            coders[key] = coder = Coder.of(of_coder.config, {k: v for k, v in tensors.items() if "." not in k})
            memory[key] = {}
            for name in learned(coder):
                remembered = {k.partition(".")[2]: each for k, each in tensors.items() if k.startswith(f"{name}.")}
                if remembered:
                    memory[key][name] = remembered
            if SILENCE in tensors:
                silence[key] = tensors[SILENCE]
        except (SafetensorError, KeyError, TypeError) as error:
            raise DataError(f"{path.name} of the checkpoint cannot be read: {error}") from error
    return state, coders, silence, memory


def _file(key: str) -> str:
    return f"{key}.safetensors"

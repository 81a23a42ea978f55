"""What a runner keeps in memory between jobs: the model it used last.

A runner serves one project at a time, and what is kept is named by project and digest, so that no job ever sees what
another project loaded.
"""

from pathlib import Path

import torch

from clew.models import Model, load_model

_kept: dict[tuple[str, str, str, torch.dtype], Model] = {}


def warm_model(project_id: str, digest: str, folder: Path, *, device: str, dtype: torch.dtype) -> Model:
    """The model of that digest, loaded from `folder` unless it is the one still in memory."""
    name = (project_id, digest, device, dtype)
    if name not in _kept:
        _kept.clear()
        _kept[name] = load_model(folder, device=device, dtype=dtype)
    return _kept[name]

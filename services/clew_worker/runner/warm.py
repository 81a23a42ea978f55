"""What a runner keeps in memory between jobs: the model it used last.

It is named by project and digest, so that no job ever sees what another project loaded.
"""

import torch

from clew.models import Model, load_model
from clew_spec.base import Spec
from clew_worker.runner.work import Work

_kept: dict[tuple[str, str, str, torch.dtype], Model] = {}


def warm_model(work: Work[Spec]) -> Model:
    """The job's model, loaded from its inputs unless it is the one still in memory."""
    name = (work.job.project_id, work.model_record["digest"], work.job.device, work.dtype)
    if name not in _kept:
        _kept.clear()
        work.report.progress("load model", 0, 1, "model")
        _kept[name] = load_model(work.inputs / "model", device=work.job.device, dtype=work.dtype)
    return _kept[name]

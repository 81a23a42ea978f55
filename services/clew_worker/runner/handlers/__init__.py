"""One handler for each kind of job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clew_spec.jobs import JobKind
from clew_spec.results import Result
from clew_spec.runner import RunJob
from clew_worker.runner.channel import Outbox
from clew_worker.runner.handlers.attribute import attribute
from clew_worker.runner.handlers.build_dataset import build_dataset
from clew_worker.runner.handlers.connections import connections
from clew_worker.runner.handlers.edge import edge
from clew_worker.runner.handlers.evaluate import evaluate
from clew_worker.runner.handlers.export_coders import export_coders
from clew_worker.runner.handlers.faithfulness import faithfulness
from clew_worker.runner.handlers.import_coders import import_coders
from clew_worker.runner.handlers.import_graph import import_graph
from clew_worker.runner.handlers.import_model import import_model
from clew_worker.runner.handlers.mean_edges import mean_edges
from clew_worker.runner.handlers.patch import patch
from clew_worker.runner.handlers.paths import paths
from clew_worker.runner.handlers.qk import qk
from clew_worker.runner.handlers.steer import steer
from clew_worker.runner.handlers.train import train
from clew_worker.runner.inputs import lay_out
from clew_worker.runner.work import Work

HANDLERS: dict[JobKind, Callable[[Work[Any]], Result]] = {
    "import-model": import_model,
    "build-dataset": build_dataset,
    "train": train,
    "evaluate": evaluate,
    "attribute": attribute,
    "import-coders": import_coders,
    "export-coders": export_coders,
    "import-graph": import_graph,
    "steer": steer,
    "faithfulness": faithfulness,
    "patch": patch,
    "edge": edge,
    "qk": qk,
    "mean-edges": mean_edges,
    "connections": connections,
    "paths": paths,
}


def handle(job: RunJob, report: Outbox) -> Result:
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    scratch, cache = Path(job.scratch), Path(job.cache)
    out = scratch / "out"
    out.mkdir()
    inputs = lay_out(job.inputs, scratch / "inputs", cache=cache, project_id=job.project_id, report=report)
    resume = None
    if job.resume:
        resume = lay_out(job.resume, scratch / "resume", cache=cache, project_id=job.project_id, report=report)
    return HANDLERS[job.spec.kind](Work(job, job.spec, inputs, resume, out, report))

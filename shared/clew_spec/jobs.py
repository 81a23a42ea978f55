"""A job: its kinds, its states and the moves between them."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from clew_spec.attribution import AttributeSpec
from clew_spec.base import Spec
from clew_spec.connections import ConnectionsSpec
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.edges import EdgeSpec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.exporting import ExportCodersSpec
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.importing import ImportCodersSpec
from clew_spec.importing_graphs import ImportGraphSpec
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.models import ImportModelSpec
from clew_spec.patching import PatchSpec
from clew_spec.paths import PathsSpec
from clew_spec.qk import QKSpec
from clew_spec.steering import SteerSpec
from clew_spec.training import TrainSpec

JobSpec = Annotated[
    ImportModelSpec
    | BuildDatasetSpec
    | TrainSpec
    | EvaluateSpec
    | AttributeSpec
    | ImportCodersSpec
    | ExportCodersSpec
    | ImportGraphSpec
    | SteerSpec
    | FaithfulnessSpec
    | PatchSpec
    | EdgeSpec
    | QKSpec
    | MeanEdgesSpec
    | ConnectionsSpec
    | PathsSpec,
    Field(discriminator="kind"),
]
JobKind = Literal[
    "import-model",
    "build-dataset",
    "train",
    "evaluate",
    "attribute",
    "import-coders",
    "export-coders",
    "import-graph",
    "steer",
    "faithfulness",
    "patch",
    "edge",
    "qk",
    "mean-edges",
    "connections",
    "paths",
]
Pool = Literal["train", "circuits"]
Visibility = Literal["project", "lab"]

POOL_OF: dict[JobKind, Pool] = {
    "import-model": "train",
    "build-dataset": "train",
    "train": "train",
    "evaluate": "circuits",
    "attribute": "circuits",
    "import-coders": "train",
    "export-coders": "circuits",
    "import-graph": "train",
    "steer": "circuits",
    "faithfulness": "circuits",
    "patch": "circuits",
    "edge": "circuits",
    "qk": "circuits",
    "mean-edges": "circuits",
    "connections": "circuits",
    "paths": "circuits",
}

PURE: frozenset[JobKind] = frozenset(
    {"attribute", "steer", "faithfulness", "patch", "edge", "qk", "mean-edges", "connections", "paths"}
)
"""Kinds whose result follows from spec and inputs alone and changes nothing else: asked again, it need not be made."""


class JobState(StrEnum):
    BLOCKED = "blocked"
    """Accepted, and waiting for jobs that make what its spec refers to."""
    QUEUED = "queued"
    """Accepted and waiting; also where a preempted or lost attempt returns to."""
    DISPATCHED = "dispatched"
    """A free worker was chosen and the bell was rung; a short lease runs."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.BLOCKED: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.DISPATCHED, JobState.CANCELLED}),
    JobState.DISPATCHED: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""Every move a job can make; nothing else may write `jobs.state`."""


class Requests(Spec):
    """What a worker must have, where that is not what is worked out from the spec."""

    gpus: int | None = Field(default=None, ge=0, le=1)
    """1 for a worker with a GPU. A worker has one or none; without this, either will do."""
    gpu_memory_bytes: int | None = Field(default=None, ge=0, lt=2**50)
    """On a worker with a GPU, in place of the estimate."""
    cpus: int | None = Field(default=None, ge=0, le=4096)
    memory_bytes: int | None = Field(default=None, ge=0, lt=2**50)
    """Of the machine; on a worker without a GPU in place of the estimate."""


class JobRequest(Spec):
    """The body of `POST /api/v1/jobs`."""

    spec: JobSpec
    priority: Literal["low", "normal", "high"] = "normal"
    max_retries: int = Field(default=0, ge=0, le=10)
    """How often a job that failed by its own fault is tried again. Lost workers and preemptions do not count."""
    visibility: Visibility = "project"
    requests: Requests = Requests()
    reuse: bool = True
    """Whether a job of this project that succeeded at exactly the same answers at once, where the kind allows it."""


class JobChange(Spec):
    """The body of `PATCH /api/v1/jobs/{id}`."""

    visibility: Visibility
    """Whether the whole lab may read the job and use what it made, or the project alone."""

"""The protocol between a supervisor and its runner.

The supervisor writes JSON lines to the runner's stdin: one `RunJob`, later perhaps a `Cancel`; end of stdin means exit.
The runner appends one `Event` a line to `events.jsonl` in its scratch folder. Files it produces lie in the same folder
and are named relative to it. An event that names a file is written after the file is complete and flushed.
A job ends with exactly one `done`, `failed` or `stopped`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from clew_spec.base import Digest, Spec
from clew_spec.errors import Problem
from clew_spec.jobs import JobSpec
from clew_spec.results import Result

EVENTS_FILE = "events.jsonl"
UPLOADED = "upload"
"""Below it lie the files of the upload that a spec's path names, among the inputs."""


class Input(Spec):
    """A file the job needs; fetched from `url`, checked against `sha256`, seen by the job as `name`."""

    name: str
    url: str
    sha256: Digest
    size: int


class RunJob(Spec):
    type: Literal["job"] = "job"
    job_id: str
    project_id: str
    fence: int
    spec: JobSpec
    records: dict[str, Any] = {}
    """Catalogue records of what the spec refers to, by field: `model`, `dataset`, `coders`, `graph`;
    and `upload`, as `{id, name, files: {name: sha256}}`."""
    inputs: list[Input] = []
    resume: list[Input] = []
    """The files of the last registered checkpoint, if there is one."""
    resume_step: int | None = None
    scratch: str
    """An empty folder for this attempt alone."""
    cache: str
    """A folder for fetched inputs, shared by the jobs of one worker; keyed by project and digest."""
    import_roots: list[str] = []
    device: str = "cpu"
    threads: int | None = None
    keep_bytes: int = 0
    """Of models and coders that a runner may hold from job to job, those of the job it does included."""
    code_version: str


class Cancel(Spec):
    """Stop at the next step boundary; write a checkpoint first if `checkpoint` is set."""

    type: Literal["cancel"] = "cancel"
    checkpoint: bool = False


Message = Annotated[RunJob | Cancel, Field(discriminator="type")]


class File(Spec):
    name: str
    """The artifact's name, `/`-separated, such as `coders/L03/weights.safetensors`."""
    path: str
    """Relative to scratch."""
    sha256: Digest
    size: int
    media_type: str = "application/octet-stream"


class _Event(Spec):
    n: int
    """Counts from 0 within the attempt, without a hole."""
    t: float
    """Unix time, seconds."""


class Progress(_Event):
    type: Literal["progress"] = "progress"
    phase: str
    done: float
    total: float
    unit: str
    rate: float | None = None
    """Units per second."""
    eta_s: float | None = None


class Metric(_Event):
    type: Literal["metric"] = "metric"
    step: int
    values: dict[str, float]
    """By name; per-layer names are `L03/fvu`."""


class Log(_Event):
    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str


class Checkpoint(_Event):
    type: Literal["checkpoint"] = "checkpoint"
    step: int
    files: list[File]


class Artifact(_Event):
    type: Literal["artifact"] = "artifact"
    file: File


class Done(_Event):
    type: Literal["done"] = "done"
    result: Result


class Failed(_Event):
    type: Literal["failed"] = "failed"
    problem: Problem
    retryable: bool = False
    """False where trying again cannot help, as with a bad input."""


class Stopped(_Event):
    """The job ended at a step boundary because it was told to."""

    type: Literal["stopped"] = "stopped"
    step: int | None = None


Event = Annotated[
    Progress | Metric | Log | Checkpoint | Artifact | Done | Failed | Stopped,
    Field(discriminator="type"),
]

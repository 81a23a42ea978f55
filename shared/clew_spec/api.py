"""What the API answers. Requests are the specs themselves; see `clew_spec.jobs.JobRequest`."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from clew_spec.coders import CoderConfig
from clew_spec.errors import Problem
from clew_spec.estimates import Estimate
from clew_spec.evaluation import CoderMetrics
from clew_spec.graph import GraphSummary
from clew_spec.jobs import JobKind, JobSpec, JobState, Pool, Visibility
from clew_spec.results import Lineage, ModelConfig

T = TypeVar("T")


class View(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Page(View, Generic[T]):
    # Pydantic looks for the docstrings of `Page[X]` where that is written, and can stumble there.
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: list[T]
    next_cursor: str | None = Field(description="pass it as `cursor` for the next page; null at the end")


class ProgressView(View):
    phase: str
    done: float
    total: float
    unit: str
    rate: float | None
    eta_s: float | None
    at: datetime


class AttemptView(View):
    fence: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    """`succeeded`, `failed`, `cancelled`, `preempted`, `lost`; null while it runs."""
    error: Problem | None


class JobSummary(View):
    id: UUID
    project: str
    kind: JobKind
    name: str
    state: JobState
    priority: Literal["low", "normal", "high"]
    visibility: Visibility
    cancel_requested: bool
    progress: ProgressView | None
    error: Problem | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobView(JobSummary):
    spec: JobSpec
    pool: Pool
    fence: int
    worker: str | None
    max_retries: int
    failure_count: int
    lost_count: int
    preempt_count: int
    result: dict[str, Any] | None
    attempts: list[AttemptView]
    parents: list[UUID]
    """Records the spec refers to, as resolved when the job was accepted."""
    last_seq: int


class EventView(View):
    job_id: UUID
    seq: int
    fence: int
    at: datetime
    type: str
    """`state`, `progress`, `metric`, `log`, `checkpoint` or `artifact`."""
    data: dict[str, Any]
    """state: `{state, reason?}`; progress: `ProgressView` without `at`; metric: `{step, values: {name: number}}`;
    log: `{level, message}`; checkpoint: `{step}`; artifact: `{name, size}`."""


class MetricSeries(View):
    name: str
    steps: list[int]
    values: list[float | None]
    """Null where the value was not a finite number."""


class ArtifactView(View):
    id: UUID
    job_id: UUID
    name: str
    sha256: str
    size: int
    media_type: str
    created_at: datetime
    url: str
    """Presigned; valid for 15 minutes."""


class RecordView(View):
    id: UUID
    project: str
    visibility: Visibility
    name: str
    job_id: UUID
    digest: str
    lineage: Lineage
    created_at: datetime


class ModelView(RecordView):
    config: ModelConfig
    tokenizer_digest: str
    proof: dict[str, Any]


class DatasetView(RecordView):
    tokenizer_digest: str
    context: int
    bos: str
    train_tokens: int
    heldout_tokens: int
    n_documents: int
    source: dict[str, Any]


class CoderView(RecordView):
    layer: int
    config: CoderConfig
    model_id: UUID
    dataset_id: UUID | None
    """Null of coders that learned from what the catalogue does not have."""
    metrics: CoderMetrics | None
    """Of the newest evaluation."""
    fvu_first: float | None
    fvu_last: float | None
    """Held-out FVU before the first step and after the last; null where it was not a finite number, and of coders that
    were imported."""


class GraphView(RecordView):
    model_id: UUID
    summary: GraphSummary


class GraphDetail(GraphView):
    analyses: list[JobSummary]
    """Jobs that succeeded with the graph as it is, such as `faithfulness`, `paths` and `steer`, as far as they are
    visible: the newest 100, newest first."""


class ComponentHealth(View):
    ok: bool
    detail: str | None = None


class Health(View):
    ok: bool
    version: str
    components: dict[str, ComponentHealth]


class WorkerView(View):
    name: str
    pool: Pool
    device: str
    memory_bytes: int
    draining: bool
    beat_age_s: float
    job_id: UUID | None


class WorkerFit(View):
    name: str
    pool: Pool
    device: str
    memory_bytes: int
    fits: bool
    """True also where its memory (0) or what the job needs is not known."""


class EstimateView(View):
    estimate: Estimate
    workers: list[WorkerFit]
    """Live ones of the job's pool."""
    fits: bool
    """Whether one of them has the memory; true where there is none to compare with. A job that does not is refused."""
    reason: str | None
    """Why it does not fit, or why that cannot be told."""


class SessionRequest(View):
    key: str


class SessionView(View):
    project: str
    key_name: str
    expires_at: datetime | None

"""What the API answers. Requests are the specs themselves: `clew_spec.jobs.JobRequest` and `clew_spec.people`."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from clew_spec.batches import BatchKind
from clew_spec.coders import CoderConfig
from clew_spec.errors import Problem
from clew_spec.estimates import Estimate
from clew_spec.evaluation import CoderMetrics
from clew_spec.graph import GraphSummary
from clew_spec.jobs import JobKind, JobSpec, JobState, Pool, Requests, Visibility
from clew_spec.people import InFlight, Permission, Role, StoredBytes
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


Cause = Literal["no-worker", "too-large", "quota", "kept", "share", "room", "unanswered", "busy", "next"]


class Standing(View):
    """Where a waiting job stands, as the scheduler last saw it."""

    position: int
    """Among the waiting jobs of its pool, from 1, in the order in which they would be given to workers."""
    eta_s: float | None
    """Seconds until it starts, by what runs and by what jobs of these kinds took; null where that cannot be told."""
    cause: Cause
    reason: str
    """Why it waits, in a sentence."""
    at: datetime
    """When the scheduler looked; while it lives, a few seconds ago."""


class BatchPlace(View):
    """The sweep or pipeline that a job came with."""

    id: UUID
    kind: BatchKind
    name: str
    step: str
    """The job's name in the pipeline, or what the sweep changed."""


class JobSummary(View):
    id: UUID
    project: str
    user: str | None
    """Who submitted it; null where a key of the project's own did, and of projects whose members you do not see."""
    kind: JobKind
    name: str
    state: JobState
    priority: Literal["low", "normal", "high"]
    visibility: Visibility
    cancel_requested: bool
    batch: BatchPlace | None
    """Null of jobs that were submitted alone, and of other projects."""
    progress: ProgressView | None
    standing: Standing | None
    """Of a waiting job; null of others, and until the scheduler has looked."""
    error: Problem | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class LinkedJob(View):
    id: UUID
    kind: JobKind
    name: str
    state: JobState


class JobView(JobSummary):
    spec: JobSpec
    requests: Requests
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
    inputs: dict[Literal["model", "dataset", "coders", "graph"], list[UUID]]
    """The same by what they are; coders by layer."""
    depends_on: list[LinkedJob]
    """What it waits, or waited, for. Here and below: as far as they are visible, and at most 100."""
    dependents: list[LinkedJob]
    retry_of: LinkedJob | None
    """The job that ended without success and is tried again by this one."""
    retries: list[LinkedJob]
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


class StepTime(View):
    step: int
    at: datetime
    """When it was measured, by the newest attempt that did."""


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
    """Held-out FVU before the first step and after the last; null where it was not finite, and of imported coders."""


class GraphView(RecordView):
    model_id: UUID
    summary: GraphSummary


class GraphDetail(GraphView):
    analyses: list[JobSummary]
    """Jobs that succeeded with the graph as it is, such as `paths` and `steer`: the newest 100 that are visible."""


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
    """Of its GPU, else of its machine; 0 where that is not known."""
    cpus: int
    """0 where that is not known."""
    draining: bool
    beat_age_s: float
    job_id: UUID | None


class PoolView(View):
    pool: Pool
    workers: int
    """That live and take work."""
    busy: int
    """Of these, those that were given a job."""
    waiting: int
    """Jobs, as the scheduler last counted them."""
    at: datetime | None
    """When that was; null until it has looked."""


class ProjectShare(View):
    """What a project may have of the workers, and what it had."""

    project: str
    weight: float
    share: float
    """Its weight over that of all projects."""
    used_s: float
    """Worker-seconds, the running jobs' included, each counting half after seven days."""
    used_share: float
    """Of what all projects used."""
    in_flight: int
    """Jobs that workers have."""
    waiting: int
    """Jobs, as the scheduler last counted them."""
    max_in_flight: int | None
    """Its quota; null without one, and of projects that are not yours."""
    stored_bytes: int | None
    """Of its published files; null of projects that are not yours."""
    max_stored_bytes: int | None


class LabView(View):
    """Who works in the lab, and who gets how much of it."""

    workers: list[WorkerView]
    pools: list[PoolView]
    projects: list[ProjectShare]


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


class ProjectRole(View):
    project: str
    project_id: UUID
    role: Role


class SessionView(View):
    """Who is asking, and what they may do in the project they act in."""

    project: str | None
    """Null where the person is in no project, or no longer in the one they acted in."""
    project_id: UUID | None
    user: str | None
    """Name of the person; null where a key of the project's own speaks."""
    display_name: str | None
    user_id: UUID | None
    key_id: UUID | None
    key_name: str | None
    """Null where the person signed in with a password."""
    role: Role | None
    admin: bool
    """Of the platform."""
    permissions: list[Permission]
    projects: list[ProjectRole]
    """That `PATCH /api/v1/session` can change to; of a key, its own alone."""
    expires_at: datetime | None


class UserView(View):
    id: UUID
    name: str
    display_name: str
    admin: bool
    disabled: bool
    has_password: bool
    projects: list[ProjectRole]
    created_at: datetime


class ProjectView(View):
    id: UUID
    name: str
    weight: float
    members: int
    role: Role | None
    """Yours."""
    max_in_flight: InFlight
    max_stored_bytes: StoredBytes
    created_at: datetime


class MemberView(View):
    user_id: UUID
    name: str
    display_name: str
    role: Role
    disabled: bool
    since: datetime


class KeyView(View):
    id: UUID
    name: str
    hint: str
    """Its last four characters."""
    user: str | None
    """Whose it is; null of the project's own."""
    scopes: list[Permission] | None
    """Null: all that its owner may."""
    live: bool
    """Neither revoked nor expired, and its owner may still use it."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKeyView(KeyView):
    key: str
    """In plain text, this once."""


class AuditView(View):
    id: int
    at: datetime
    project: str | None
    """Null of what was done to the lab itself."""
    user: str | None
    key: str | None
    action: str
    target: str
    request_id: str | None
    data: dict[str, Any] | None

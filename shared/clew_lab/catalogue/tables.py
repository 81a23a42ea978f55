"""The tables. Every one that belongs to a tenant carries `project_id`, and is read through `catalogue.scope`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from clew_lab.catalogue.base import Base as Base
from clew_lab.catalogue.base import Json
from clew_lab.catalogue.base import new_id as _new_id
from clew_lab.catalogue.base import now as _now
from clew_lab.catalogue.batch_tables import Batch as Batch
from clew_lab.catalogue.batch_tables import Dependency as Dependency
from clew_lab.catalogue.data_tables import Secret as Secret
from clew_lab.catalogue.data_tables import Upload as Upload
from clew_lab.catalogue.data_tables import UploadedFile as UploadedFile
from clew_lab.catalogue.people_tables import ApiKey as ApiKey
from clew_lab.catalogue.people_tables import Membership as Membership
from clew_lab.catalogue.people_tables import Session as Session
from clew_lab.catalogue.people_tables import SignInAttempt as SignInAttempt
from clew_lab.catalogue.people_tables import User as User
from clew_lab.catalogue.queue_tables import Queue as Queue
from clew_lab.catalogue.queue_tables import Standing as Standing
from clew_lab.catalogue.queue_tables import Usage as Usage
from clew_spec.jobs import JobState


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = (CheckConstraint("weight > 0", name="weight"),)

    id: Mapped[UUID] = _new_id()
    name: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[float] = mapped_column(Float(53), server_default=text("1"))
    """Its share of the workers against that of other projects."""
    max_in_flight: Mapped[int | None] = mapped_column(Integer)
    """Jobs that workers may have of it at once; null is no quota, here and below."""
    max_stored_bytes: Mapped[int | None]
    created_at: Mapped[datetime] = _now()


class Worker(Base):
    """A supervisor process. It is alive while `beat_at` is fresh."""

    __tablename__ = "workers"

    id: Mapped[UUID] = _new_id()
    name: Mapped[str] = mapped_column(unique=True)
    pool: Mapped[str]
    device: Mapped[str]
    memory_bytes: Mapped[int]
    """Of its GPU, else of the machine. 0 here and below: it cannot be told, and nothing is refused for it."""
    ram_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    cpus: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    gpus: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """1 or none; of none, 0 says just that."""
    machine: Mapped[str | None]
    """Workers of one machine share its CPUs and memory, of one GPU that GPU; null here and below: with nobody."""
    gpu_uuid: Mapped[str | None]
    reserved_for: Mapped[UUID | None]
    """A waiting job that only such a worker can run, and that others may not overtake here."""
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    unanswered: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Bells that it left unanswered since it answered one."""
    rests_until: Mapped[datetime | None]
    """Until when it is given nothing for that."""
    started_at: Mapped[datetime] = _now()
    beat_at: Mapped[datetime] = _now()


_AGE = text("uuid_send(id)")
"""The order of ids, in a form that the primary key does not have: where few rows match, Postgres may else hope to meet
them soon on a walk through all jobs."""


class Job(Base):
    """One accepted request. This row is the queue: nothing else decides what runs."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        UniqueConstraint("project_id", "idempotency_key"),
        CheckConstraint(
            "state in ('queued', 'blocked', 'dispatched', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
        ),
        CheckConstraint("(state in ('dispatched', 'running')) = (lease_expires_at is not null)", name="lease_iff_held"),
        CheckConstraint(
            "(state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)", name="finished_iff_terminal"
        ),
        CheckConstraint("visibility in ('project', 'lab')", name="visibility"),
        ForeignKeyConstraint(["project_id", "batch_id"], ["batches.project_id", "batches.id"]),
        Index("ix_jobs_batch", "batch_id", "id", postgresql_where=text("batch_id is not null")),
        Index("ix_jobs_blocked", "id", postgresql_where=text("state = 'blocked'")),
        Index("ix_jobs_retried", "retry_of", postgresql_where=text("retry_of is not null")),
        Index(
            "ix_jobs_waiting",
            *("pool", "project_id", text("priority desc"), "created_at", "id"),
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_shapes",
            *("pool", "priority", "needs_gpus", "needs_cpus", "needs_gpu_memory", "needs_ram", "needs_ram_alone"),
            postgresql_where=text("state = 'queued'"),
        ),
        Index("ix_jobs_held", "lease_expires_at", postgresql_where=text("state in ('dispatched', 'running')")),
        Index("ix_jobs_listing", "project_id", text("id desc")),
        Index("ix_jobs_newest", "project_id", "state", "kind", _AGE, postgresql_include=["id"]),
        Index(
            "ix_jobs_shown",
            "state",
            "kind",
            _AGE,
            postgresql_where=text("visibility = 'lab'"),
            postgresql_include=["id"],
        ),
        Index(
            "ix_jobs_by",
            *("project_id", "user_id", _AGE),
            postgresql_where=text("user_id is not null"),
            postgresql_include=["id"],
        ),
        Index(
            "ix_jobs_by_key",
            *("project_id", "created_by", _AGE),
            postgresql_where=text("user_id is null"),
            postgresql_include=["id"],
        ),
        Index("ix_jobs_content", "project_id", "content_digest", postgresql_where=text("state = 'succeeded'")),
        Index(
            "ix_jobs_expected",
            *("project_id", "expected_bytes"),
            postgresql_where=text("finished_at is null and expected_bytes > 0"),
        ),
        Index("ix_jobs_finished", "kind", "finished_at", postgresql_where=text("state = 'succeeded'")),
        Index(
            "ix_jobs_upload", text("(inputs ->> 'upload')"), postgresql_where=text("inputs ->> 'upload' is not null")
        ),
        Index("ix_jobs_graph", text("(inputs ->> 'graph')"), postgresql_where=text("inputs ->> 'graph' is not null")),
    )

    id: Mapped[UUID] = _new_id()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    visibility: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    spec: Mapped[Json]
    """As submitted."""
    inputs: Mapped[Json]
    """What the spec's references were when the job was accepted: by field, UUIDs of catalogue records."""
    pool: Mapped[str]
    priority: Mapped[int] = mapped_column(Integer)
    """-1 low, 0 normal, 1 high."""
    needs_gpus: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """What a worker must have; 0 is nothing, or not known."""
    needs_cpus: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    needs_gpu_memory: Mapped[int] = mapped_column(server_default=text("0"))
    """Bytes of its GPU, if it has one."""
    needs_ram: Mapped[int] = mapped_column(server_default=text("0"))
    """Bytes of its machine, beside a GPU."""
    needs_ram_alone: Mapped[int] = mapped_column(server_default=text("0"))
    """Bytes of its machine, if it has no GPU."""
    expected_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    """What it will publish, as far as it is known; counts as stored until the job has ended."""
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[str]
    content_digest: Mapped[str | None]
    """Of all that decides the result, for kinds whose result may be used again."""
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """Whoever submitted it, where a person did."""
    requests: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    """What was asked of a worker, beside what follows from the spec."""
    batch_id: Mapped[UUID | None]
    """The sweep or pipeline that it came with."""
    step: Mapped[str | None]
    """Its name in the pipeline, or what the sweep changed."""
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))
    """The job that ended without success, and is tried again by this one."""

    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED.value)
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts dispatches. Whoever holds an older number is refused every write."""
    lease_expires_at: Mapped[datetime | None]
    worker_id: Mapped[UUID | None] = mapped_column(ForeignKey("workers.id"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    preempt_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    max_retries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failure_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    lost_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    preempt_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    checkpoint: Mapped[Json | None]
    """The last registered one: `{step, fence, files: [{name, key, sha256, size}]}`; with the `job_id` of another where
    this job tries that one again and has registered none yet."""
    progress: Mapped[Json | None]
    error: Mapped[Json | None]
    result: Mapped[Json | None]
    last_seq: Mapped[int] = mapped_column(server_default=text("0"))
    """Number of the newest event; taken under this row's lock, so that readers never miss one."""
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    dispatched_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class OfJob:
    """Columns of what belongs to a job; the pair of keys keeps it inside the job's project."""

    project_id: Mapped[UUID]
    job_id: Mapped[UUID]

    @declared_attr.directive
    def __table_args__(cls) -> Any:  # noqa: N805
        return (ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),)


class Attempt(OfJob, Base):
    __tablename__ = "attempts"

    @declared_attr.directive
    def __table_args__(cls) -> Any:  # noqa: N805
        return (
            ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),
            Index("ix_attempts_left", "job_id", postgresql_where=text("not collected")),
            Index("ix_attempts_ended", "outcome", postgresql_where=text("outcome is not null")),
        )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[UUID | None] = mapped_column(ForeignKey("workers.id"))
    started_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """`succeeded`, `failed`, `cancelled`, `preempted` or `lost`."""
    error: Mapped[Json | None]
    told: Mapped[int] = mapped_column(server_default=text("0"))
    """How many batches of events are written: one that is sent again changes nothing."""
    collected: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether its objects that were never published have been deleted."""


class Event(OfJob, Base):
    __tablename__ = "events"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    fence: Mapped[int]
    at: Mapped[datetime] = _now()
    type: Mapped[str]
    data: Mapped[Json]


class Metric(OfJob, Base):
    """A point of a series. Points of an older attempt past its checkpoint are hidden, not deleted."""

    __tablename__ = "metrics"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(Float(53))
    hidden: Mapped[bool] = mapped_column(server_default=text("false"))


class Artifact(OfJob, Base):
    """A published file. Rows appear only in the transaction that ends an attempt with success."""

    __tablename__ = "artifacts"

    id: Mapped[UUID] = _new_id()
    fence: Mapped[int]
    name: Mapped[str]
    key: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]
    media_type: Mapped[str]
    created_at: Mapped[datetime] = _now()

    @declared_attr.directive
    def __table_args__(cls) -> Any:  # noqa: N805
        return (
            ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),
            UniqueConstraint("job_id", "name"),
            Index("ix_artifacts_content", "project_id", "sha256"),
            Index("ix_artifacts_stored", "project_id", "size"),
        )


class Record:
    """Columns that everything in the catalogue has."""

    id: Mapped[UUID] = _new_id()
    project_id: Mapped[UUID]
    job_id: Mapped[UUID]
    visibility: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str]
    files: Mapped[list[Any]]
    """Names of its artifacts, all of them of `job_id`."""
    lineage: Mapped[Json]
    created_at: Mapped[datetime] = _now()

    @declared_attr.directive
    def __table_args__(cls) -> Any:  # noqa: N805
        return (
            ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),
            UniqueConstraint("project_id", "id"),
            CheckConstraint("visibility in ('project', 'lab')", name="visibility"),
            Index(f"ix_{cls.__tablename__}_name", "project_id", "name", text("id desc")),  # type: ignore[attr-defined]
        )


class Model(Record, Base):
    __tablename__ = "models"

    config: Mapped[Json]
    tokenizer_digest: Mapped[str]
    proof: Mapped[Json]


class Dataset(Record, Base):
    __tablename__ = "datasets"

    tokenizer_digest: Mapped[str]
    context: Mapped[int]
    bos: Mapped[str]
    train_tokens: Mapped[int]
    heldout_tokens: Mapped[int]
    n_documents: Mapped[int]
    source: Mapped[Json]


class Coder(Record, Base):
    """One coder of one layer; `name` is that of its set, `job_id` the job that made the set."""

    __tablename__ = "coders"

    layer: Mapped[int] = mapped_column(Integer)
    config: Mapped[Json]
    model_id: Mapped[UUID]
    dataset_id: Mapped[UUID | None]
    fvu_first: Mapped[float | None] = mapped_column(Float(53))
    fvu_last: Mapped[float | None] = mapped_column(Float(53))
    """Of an imported coder there is no FVU, and no dataset if the catalogue does not have it."""
    metrics: Mapped[Json | None]
    """Of the newest evaluation (`clew_spec.evaluation.CoderMetrics`)."""
    evaluated_by: Mapped[UUID | None]


class Graph(Record, Base):
    __tablename__ = "graphs"

    model_id: Mapped[UUID]
    summary: Mapped[Json]


class Audit(Base):
    """Who did what; written in the transaction that does it."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = _now()
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[UUID | None]
    user_id: Mapped[UUID | None]
    action: Mapped[str]
    """Past tense: `job.accepted`, `job.cancel_requested`, `key.created`."""
    target: Mapped[str]
    request_id: Mapped[str | None]
    data: Mapped[Json | None]


Index("ix_jobs_changed", Job.updated_at)
Index("ix_audit_project", Audit.project_id, Audit.id.desc())

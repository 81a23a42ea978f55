"""Take a job in: once it is committed, it will reach a terminal state."""

import json
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Executable, Text, bindparam, select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue import queries
from clew_lab.catalogue.scope import Actor, owned
from clew_lab.catalogue.tables import Dependency, Job
from clew_lab.jobs.events import FIRST
from clew_lab.jobs.needs import NOTHING, Needs
from clew_lab.jobs.notify import JOBS, QUEUE
from clew_lab.jobs.quotas import OverQuota, require_space
from clew_spec.errors import Conflict
from clew_spec.jobs import POOL_OF, PURE, JobRequest, JobState

PRIORITIES = {"low": -1, "normal": 0, "high": 1}


@dataclass(frozen=True)
class Asked:
    """A job to be taken in, with what its references mean."""

    request: JobRequest
    name: str
    inputs: dict[str, Any] = field(default_factory=dict)
    """UUIDs (as str) of the catalogue records that the spec refers to, by field: `model`, `dataset`, `coders`,
    `graph`."""
    needs: Needs = NOTHING
    """What a worker must have."""
    expected_bytes: int = 0
    """What it will publish, as far as it is known."""
    after: frozenset[UUID] = frozenset()
    """Jobs of the project that make what it refers to. It waits for them; inputs and needs are found out then."""

    @property
    def state(self) -> JobState:
        return JobState.BLOCKED if self.after else JobState.QUEUED


def accept(
    session: Session,
    actor: Actor,
    asked: Asked,
    *,
    idempotency_key: str | None = None,
    request_id: str | None = None,
    code_version: str = "unknown",
) -> tuple[Job, bool]:
    """Job, first event and audit row, in the caller's transaction: answer only after it has committed.

    Returns the job and whether it is new: the same idempotency key with the same request gives the job there is, and
    so does, under a new key, what `known` finds. Raises `Conflict` where that key came with another request, and
    `OverQuota`.
    """
    row = columns(actor, asked, code_version)
    if (job := known(session, actor, asked.request, row["content_digest"], idempotency_key)) is not None:
        return job, False
    try:
        if actor.limited:
            require_space(session, actor.project_id, asked.expected_bytes)
    except OverQuota:
        # Who asked at the same moment with the same key may have been first, and got the room.
        if idempotency_key is None or queries.job_of_idempotency_key(session, actor, idempotency_key) is None:
            raise
        return _earlier(session, actor, idempotency_key, row["request_digest"]), False
    row["idempotency_key"] = idempotency_key
    job = session.scalar(_accepting(tuple(row)), {**row, "request_id": request_id})
    if job is None:
        return _earlier(session, actor, idempotency_key, row["request_digest"]), False
    session.add_all(Dependency(project_id=job.project_id, job_id=job.id, on_id=on_id) for on_id in asked.after)
    return job, True


@cache
def _accepting(names: tuple[str, ...]) -> Executable:
    """Job, first event, audit row and both bells, or nothing where the idempotency key is taken. names: of columns.

    One statement, spelled once: what a submission waits for is mostly statements, their building and their way.
    """
    statement = text(f"""
        with job as (
            insert into jobs ({", ".join(names)}, last_seq) values ({", ".join(f":{name}" for name in names)}, 1)
            on conflict (project_id, idempotency_key) do nothing
            returning *
        ), event as ({FIRST}), audited as (
            insert into audit (project_id, key_id, user_id, action, target, request_id, data)
            select project_id, created_by, user_id, 'job.accepted', cast(id as text), :request_id,
                   jsonb_build_object('kind', kind, 'name', name, 'request_digest', request_digest)
            from job
        )
        select job.*, pg_notify('{QUEUE}', ''), pg_notify('{JOBS}', cast(id as text)) from job
    """)  # noqa: S608  # names of columns and channels
    types = {name: Job.__table__.c[name].type for name in names}
    typed = (bindparam(name, type_=type) for name, type in types.items())
    return select(Job).from_statement(statement.bindparams(*typed, bindparam("request_id", type_=Text())))


def columns(actor: Actor, asked: Asked, code_version: str) -> dict[str, Any]:
    """Of the job's row, but for what tells it from others that are asked for the same."""
    request = asked.request
    return {
        "project_id": actor.project_id,
        "visibility": request.visibility,
        "kind": request.spec.kind,
        "name": asked.name,
        "spec": request.spec.model_dump(mode="json"),
        "inputs": asked.inputs,
        "pool": POOL_OF[request.spec.kind],
        "priority": PRIORITIES[request.priority],
        **asked.needs.columns,
        "expected_bytes": asked.expected_bytes,
        "requests": request.requests.model_dump(mode="json", exclude_none=True),
        "max_retries": request.max_retries,
        "request_digest": request_digest(request),
        "content_digest": None if asked.after else content_digest(request, asked.inputs, code_version),
        "created_by": actor.key_id,
        "user_id": actor.user_id,
        "state": asked.state.value,
    }


def known(
    session: Session, actor: Actor, request: JobRequest, content: str | None, idempotency_key: str | None
) -> Job | None:
    """The newest job of the actor's own project that succeeded at exactly this, unless its key is spoken for."""
    if content is None or not request.reuse:
        return None
    if idempotency_key is not None and queries.job_of_idempotency_key(session, actor, idempotency_key) is not None:
        return None
    same = owned(actor, Job).where(Job.content_digest == content, Job.state == JobState.SUCCEEDED.value)
    # Whoever asks for a result that all may read is not answered by one that they may not.
    same = same.where(Job.visibility == request.visibility)
    return session.scalar(same.order_by(Job.id.desc()).limit(1))


def request_digest(request: BaseModel) -> str:
    """sha256 of the request with its defaults filled in; spelling and order of keys do not matter."""
    return digest(request.model_dump(mode="json"))


def content_digest(request: JobRequest, inputs: dict[str, Any], code_version: str) -> str | None:
    """sha256 of all that decides the result: spec, records (which never change), code; None where it is not `PURE`."""
    if request.spec.kind not in PURE:
        return None
    spec = request.spec.model_dump(mode="json")
    return digest({"spec": spec, "inputs": inputs, "code": code_version})


def digest(content: Any) -> str:
    """sha256 of it as JSON."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _earlier(session: Session, actor: Actor, idempotency_key: str | None, digest: str) -> Job:
    """The job that came first: the insert above waited until it was committed, so it can be seen."""
    job = session.scalars(
        select(Job).where(Job.project_id == actor.project_id, Job.idempotency_key == idempotency_key)
    ).one()
    if job.request_digest != digest:
        raise Conflict(
            f"the idempotency key {idempotency_key!r} was used for another request",
            where="Idempotency-Key",
            expected="the same body as the first time, or a fresh key",
            hint=f"the first request became job {job.id}",
        )
    return job

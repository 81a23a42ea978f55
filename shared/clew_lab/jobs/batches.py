"""Take many jobs in at once: all of them or none, and one bell."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.scope import Actor, batch_of_idempotency_key
from clew_lab.catalogue.tables import Base, Batch, Dependency, Event, Job
from clew_lab.jobs.accept import Asked, columns, request_digest
from clew_lab.jobs.notify import notify_job, notify_queue
from clew_spec.batches import PipelineRequest, SweepRequest
from clew_spec.errors import Conflict


@dataclass(frozen=True)
class Member:
    """A job of a batch."""

    id: UUID
    step: str
    """Its name in the pipeline, or what the sweep changed."""
    asked: Asked


def new_ids(session: Session, count: int) -> list[UUID]:
    """Of jobs to come, in order."""
    return list(session.scalars(select(func.uuidv7()).select_from(func.generate_series(1, count))))


def accept_batch(
    session: Session,
    actor: Actor,
    request: SweepRequest | PipelineRequest,
    members: Sequence[Member],
    *,
    idempotency_key: str | None = None,
    request_id: str | None = None,
    code_version: str = "unknown",
) -> tuple[Batch, bool]:
    """Batch, jobs, their first events and one audit row, in the caller's transaction.

    Every job is a new one. Returns the batch and whether it is new; raises `Conflict` where the idempotency key came
    with another request.
    """
    digest = request_digest(request)
    batch = session.scalar(
        insert(Batch)
        .values(
            project_id=actor.project_id,
            kind="sweep" if isinstance(request, SweepRequest) else "pipeline",
            name=request.name,
            size=len(members),
            idempotency_key=idempotency_key,
            request_digest=digest,
            created_by=actor.key_id,
            user_id=actor.user_id,
        )
        .on_conflict_do_nothing(index_elements=[Batch.project_id, Batch.idempotency_key])
        .returning(Batch)
    )
    if batch is None:
        return earlier_batch(session, actor, request, idempotency_key), False
    place = {"batch_id": batch.id}
    rows = [
        columns(actor, member.asked, code_version) | place | {"id": member.id, "step": member.step}
        for member in members
    ]
    insert_jobs(session, rows, {member.id: member.asked.after for member in members if member.asked.after})
    audit.record(
        session,
        actor,
        f"{batch.kind}.accepted",
        batch.id,
        project_id=actor.project_id,
        request_id=request_id,
        name=batch.name,
        jobs=batch.size,
        request_digest=digest,
    )
    return batch, True


def earlier_batch(
    session: Session, actor: Actor, request: SweepRequest | PipelineRequest, idempotency_key: str | None
) -> Batch:
    """What came of this key before. Raises `Conflict` where it came with another request."""
    batch = batch_of_idempotency_key(session, actor, idempotency_key)
    assert batch is not None  # the insert waited until it was committed
    if batch.request_digest != request_digest(request):
        raise Conflict(
            f"the idempotency key {idempotency_key!r} was used for another request",
            where="Idempotency-Key",
            expected="the same body as the first time, or a fresh key",
            hint=f"the first request became the {batch.kind} {batch.id}",
        )
    return batch


def insert_jobs(session: Session, rows: Sequence[dict[str, Any]], after: Mapping[UUID, Iterable[UUID]]) -> None:
    """Jobs with their first events, and what each waits for. rows: columns by name, the same in all, `id` included."""
    _insert(session, Job, [{**row, "last_seq": 1} for row in rows])
    _insert(
        session,
        Event,
        [
            {
                "project_id": row["project_id"],
                "job_id": row["id"],
                "seq": 1,
                "fence": 0,
                "type": "state",
                "data": {"state": row["state"], "from": None},
            }
            for row in rows
        ],
    )
    owner = {row["id"]: row["project_id"] for row in rows}
    links = [
        {"project_id": owner[id], "job_id": id, "on_id": on_id} for id, on_ids in after.items() for on_id in on_ids
    ]
    _insert(session, Dependency, links)
    if rows:
        notify_job(session, rows[-1]["id"])  # who follows all jobs looks at all that changed
        notify_queue(session)


def _insert(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        of_rows = table.__table__
        assert isinstance(of_rows, Table)
        session.execute(of_rows.insert(), rows)

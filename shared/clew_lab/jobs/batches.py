"""Take many jobs in at once: all of them or none, and one bell."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.scope import Actor, batch_of_idempotency_key
from clew_lab.catalogue.tables import Batch, Dependency
from clew_lab.jobs.accept import Asked, columns, request_digest
from clew_lab.jobs.events import FIRST
from clew_lab.jobs.notify import notify_job, notify_queue
from clew_lab.jobs.quotas import require_space
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
    with another request, and `OverQuota`.
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
    require_space(session, actor.project_id, sum(member.asked.expected_bytes for member in members), what=batch.kind)
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
    if not rows:
        return
    session.execute(_inserting(tuple(rows[0])), {"rows": json.dumps(rows, default=str)})
    owner = {row["id"]: row["project_id"] for row in rows}
    links = [
        {"project_id": owner[id], "job_id": id, "on_id": on_id} for id, on_ids in after.items() for on_id in on_ids
    ]
    if links:
        session.execute(insert(Dependency), links)
    notify_job(session, rows[-1]["id"])  # who follows all jobs looks at all that changed
    notify_queue(session)


@cache
def _inserting(names: tuple[str, ...]) -> TextClause:
    """Jobs with their first events. names: of columns.

    One statement with one value, whatever their number: bound one by one, 10,000 rows take seconds.
    """
    columns = ", ".join(names)
    return text(f"""
        with job as (
            insert into jobs ({columns}, last_seq)
            select {columns}, 1 from jsonb_populate_recordset(cast(null as jobs), cast(:rows as jsonb))
            returning id, project_id, state, fence, last_seq
        )
        {FIRST}
    """)  # noqa: S608  # names of columns

"""What happened to a job, numbered without a hole under the job's row lock, so that no reader misses one.

Numbers from a sequence would commit out of order: a reader who has seen 8 would never look for a late 7.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Event, Job, Metric
from clew_lab.jobs.moves import hold
from clew_lab.jobs.notify import notify_job

EventType = Literal["state", "progress", "metric", "log", "checkpoint", "artifact"]
Entry = tuple[EventType, dict[str, Any]]


def append(session: Session, job: Job, *entries: Entry) -> None:
    """Add events to a job whose row this transaction has locked."""
    first = job.last_seq + 1
    session.add_all(
        Event(project_id=job.project_id, job_id=job.id, seq=seq, fence=job.fence, type=type, data=data)
        for seq, (type, data) in enumerate(entries, first)
    )
    job.last_seq += len(entries)
    job.updated_at = func.now()
    notify_job(session, job.id)


def report(
    session: Session,
    job_id: UUID,
    fence: int,
    entries: Sequence[Entry],
    *,
    metrics: Sequence[tuple[int, Mapping[str, float]]] = (),
    progress: Mapping[str, Any] | None = None,
) -> None:
    """Write a batch of what a runner told: one transaction, one notification. Raises `Fenced`.

    metrics: (step, values by name). A point that is there already stays as it is, so a batch may be sent again.
    """
    job = hold(session, job_id, fence)
    if progress is not None:
        job.progress = dict(progress)
    if entries:
        append(session, job, *entries)
    points = [
        {"project_id": job.project_id, "job_id": job.id, "name": name, "step": step, "fence": fence, "value": value}
        for step, values in metrics
        for name, value in values.items()
    ]
    if points:
        session.execute(insert(Metric).on_conflict_do_nothing(), points)

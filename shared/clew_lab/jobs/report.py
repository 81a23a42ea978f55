"""What a running attempt tells while it runs; every write is fenced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Attempt, Job, Metric
from clew_lab.jobs import events
from clew_lab.jobs.events import Entry
from clew_lab.jobs.moves import Fenced, from_now, hold
from clew_spec.jobs import JobState


@dataclass(frozen=True)
class Orders:
    """What is asked of the holder of a job, learned whenever it writes."""

    cancel: bool = False
    preempt: bool = False

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(cancel=job.cancel_requested, preempt=job.preempt_requested)


def beat(session: Session, job_id: UUID, fence: int, *, lease_s: float) -> Orders:
    """Renew the lease. Raises `Fenced`."""
    renewed = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING.value)
        .values(lease_expires_at=from_now(lease_s))
        .returning(Job.cancel_requested, Job.preempt_requested)
    ).one_or_none()
    if renewed is None:
        raise Fenced(f"attempt {fence} of job {job_id} has lost its lease")
    return Orders(*renewed)


def orders(session: Session, job_id: UUID, fence: int) -> Orders:
    """What is asked of the holder now; writes nothing and waits for no lock. Raises `Fenced`."""
    asked = session.execute(
        select(Job.cancel_requested, Job.preempt_requested).where(
            Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING.value
        )
    ).one_or_none()
    if asked is None:
        raise Fenced(f"attempt {fence} of job {job_id} has lost its lease")
    return Orders(*asked)


def report(
    session: Session,
    job_id: UUID,
    fence: int,
    entries: Sequence[Entry],
    *,
    number: int,
    metrics: Sequence[tuple[int, Mapping[str, float]]] = (),
    progress: Mapping[str, Any] | None = None,
) -> Orders:
    """Write a batch of events: one transaction, one notification. Raises `Fenced`.

    number: counts the attempt's batches from 1; one that was written already, though the answer was lost, is not
    written again. metrics: (step, values by name), for the series.
    """
    job = hold(session, job_id, fence)
    attempt = session.get_one(Attempt, (job_id, fence), populate_existing=True)
    if attempt.told >= number:
        return Orders.of(job)
    attempt.told = number
    if progress is not None:
        job.progress = dict(progress)
    if entries:
        events.append(session, job, *entries)
    points = [
        {"project_id": job.project_id, "job_id": job.id, "name": name, "step": step, "fence": fence, "value": value}
        for step, values in metrics
        for name, value in values.items()
    ]
    if points:
        session.execute(insert(Metric).on_conflict_do_nothing(), points)
    return Orders.of(job)


def register_checkpoint(
    session: Session, job_id: UUID, fence: int, step: int, files: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Make this the checkpoint from which the next attempt continues. Raises `Fenced`.

    files: `{name, key, sha256, size}` of each, uploaded already. Returns the keys of the one it replaces.
    """
    job = hold(session, job_id, fence)
    fresh = {"step": step, "fence": fence, "files": [dict(file) for file in files]}
    if job.checkpoint == fresh:  # the answer to the first call was lost
        return []
    before = job.checkpoint or {}
    # Files of the job that this one tries again are that one's.
    replaced = [] if "job_id" in before else [file["key"] for file in before.get("files", [])]
    job.checkpoint = fresh
    events.append(session, job, ("checkpoint", {"step": step, "size": sum(file["size"] for file in files)}))
    return replaced

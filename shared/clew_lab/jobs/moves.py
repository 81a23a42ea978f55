"""The one place where a job changes its state."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job
from clew_lab.jobs import events
from clew_lab.jobs.notify import notify_job, notify_queue
from clew_spec.errors import Conflict, NotFound
from clew_spec.jobs import MOVES, JobState

HELD = frozenset({JobState.DISPATCHED, JobState.RUNNING})


class Fenced(Conflict):
    """The writer does not hold the job any more: it was given to another, cancelled, or has ended."""

    code = "fenced"
    title = "The job is held by another attempt"


def lock(session: Session, job_id: UUID) -> Job:
    """The job's row, locked until the transaction ends. Raises `NotFound`."""
    job = session.scalar(locked(Job.id == job_id))
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


def hold(session: Session, job_id: UUID, fence: int, state: JobState = JobState.RUNNING) -> Job:
    """The job's row, locked, if attempt `fence` still holds it in `state`. Raises `Fenced`.

    Every write of a worker begins here: while the lock is held no one can take the job away, and a worker whose job
    was taken away finds no row.
    """
    job = session.scalar(locked(Job.id == job_id, Job.fence == fence, Job.state == state.value))
    if job is None:
        raise Fenced(f"attempt {fence} of job {job_id} does not hold it as {state.value}")
    return job


def move(session: Session, job: Job, to: JobState, *, lease_s: float | None = None, **data: Any) -> None:
    """Bring a locked job to another state and say so in its events; `data` goes into the event.

    lease_s: how long the new state is held; required for `dispatched` and `running`.
    Raises `Conflict` for a move that `clew_spec.jobs.MOVES` does not have.
    """
    origin = JobState(job.state)
    if to not in MOVES[origin]:
        raise Conflict(f"job {job.id} is {origin.value} and cannot become {to.value}")
    job.state = to.value
    job.lease_expires_at = from_now(lease_s) if to in HELD else None
    job.finished_at = func.now() if to.terminal else None
    if to is JobState.QUEUED:
        job.worker_id = None
        job.preempt_requested = False
    events.append(session, job, ("state", {"state": to.value, "from": origin.value, **data}))
    session.flush()
    if to not in HELD:
        notify_queue(session)


_END_WAITING = text("""
    with waiting as (
        select id, state, last_seq + 1 as seq from jobs where id = any(:ids) and state in ('queued', 'blocked')
        order by id for no key update
    ), cancelled as (
        update jobs
        set state = 'cancelled', cancel_requested = true, finished_at = now(), updated_at = now(), last_seq = seq
        from waiting where jobs.id = waiting.id
        returning jobs.project_id, jobs.id, jobs.fence, waiting.seq, waiting.state
    )
    insert into events (project_id, job_id, seq, fence, type, data)
    select project_id, id, seq, fence, 'state', jsonb_build_object('state', 'cancelled', 'from', state) from cancelled
    returning job_id
""")


def end_waiting(session: Session, job_ids: Sequence[UUID]) -> list[UUID]:
    """Cancel those of many jobs that no worker has, as `move` would one by one; returns which."""
    ended = list(session.scalars(_END_WAITING, {"ids": list(job_ids)}))
    if ended:
        notify_job(session, ended[-1])  # who follows all jobs looks at all that changed
        notify_queue(session)
    return ended


def from_now(seconds: float | None) -> ColumnElement[Any]:
    """A time by the database's clock, the only one that decides anything."""
    if seconds is None:
        raise ValueError("a held state needs a lease")
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def locked(*where: ColumnElement[bool]) -> Select[Job]:
    """`no key update`: rows that refer to the job may be inserted meanwhile."""
    return select(Job).where(*where).with_for_update(key_share=True).execution_options(populate_existing=True)

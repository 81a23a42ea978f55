"""Ask jobs to stop. Who runs one learns of it within about a second."""

from collections.abc import Iterable, Set
from uuid import UUID

from sqlalchemy.orm import Session, load_only

from clew_lab.catalogue import audit, scope
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Batch, Job
from clew_lab.jobs import events
from clew_lab.jobs.dependents import behind, ended
from clew_lab.jobs.moves import end_waiting, lock, locked, move
from clew_spec.errors import Conflict
from clew_spec.jobs import TERMINAL, JobState
from clew_spec.people import Permission


def cancel(session: Session, actor: Actor, job_id: UUID, *, request_id: str | None = None) -> Job:
    """A waiting job ends at once, a running one at its next step. Asking again changes nothing.

    Raises `NotFound` where the job is not the project's, `Forbidden` where it is another member's and the actor does
    not manage the project's jobs, `Conflict` where it has succeeded or failed already.
    """
    if not actor.submitted(scope.get(session, actor, Job, job_id, write=True)):
        actor.require(Permission.JOB_MANAGE)
    job = lock(session, job_id)
    if job.state == JobState.CANCELLED.value or job.cancel_requested:
        return job
    if JobState(job.state).terminal:
        raise Conflict(f"job {job_id} has {job.state} already", hint="there is nothing left to cancel")
    _stop(session, job)
    _tell(session, actor, job, request_id)
    return job


def cancel_with_dependents(session: Session, actor: Actor, job_id: UUID, *, request_id: str | None = None) -> Job:
    """The job, unless it has ended, and all that wait for it or were made of what it made.

    Raises as `cancel`, but for a job that has ended: `Conflict` only where nothing behind it is left to cancel either.
    """
    job = scope.get(session, actor, Job, job_id, write=True)
    stopped = cancel_all(session, actor, [job_id, *behind(session, [job_id])])
    if not stopped and JobState(job.state).terminal:
        raise Conflict(f"job {job_id} has {ended(job)} already, and so has all behind it", hint="nothing is left")
    for each in stopped:
        _tell(session, actor, each, request_id)
    return session.get_one(Job, job_id, populate_existing=True)


def cancel_batch(session: Session, actor: Actor, batch: Batch, *, request_id: str | None = None) -> int:
    """All jobs of a sweep or pipeline that have not ended; returns how many those were. Raises `Forbidden`."""
    ids = session.scalars(scope.owned(actor, Job).with_only_columns(Job.id).where(Job.batch_id == batch.id))
    cancelled = len(cancel_all(session, actor, ids))
    audit.record(
        session,
        actor,
        f"{batch.kind}.cancel_requested",
        batch.id,
        project_id=batch.project_id,
        request_id=request_id,
        jobs=cancelled,
    )
    return cancelled


def cancel_all(session: Session, actor: Actor, job_ids: Iterable[UUID]) -> list[Job]:
    """Those of the project's jobs that have not ended; returns which, for the caller's record of it. All of them or,
    where one is another member's and the actor does not manage the project's jobs, none: `Forbidden`."""
    living = scope.owned(actor, Job).where(Job.id.in_(list(job_ids)), Job.state.not_in(TERMINAL))
    whose = load_only(Job.project_id, Job.user_id, Job.created_by)
    jobs = session.scalars(living.where(~Job.cancel_requested).order_by(Job.id).options(whose)).all()
    if not all(actor.submitted(job) for job in jobs):
        actor.require(Permission.JOB_MANAGE)
    gone = set(end_waiting(session, [job.id for job in jobs]))
    stopped = []
    for job in jobs:
        if job.id not in gone:
            locked = lock(session, job.id)
            if JobState(locked.state).terminal or locked.cancel_requested:
                continue  # it ends by itself just now, or another was sooner
            _stop(session, locked)
        stopped.append(job)
    return stopped


def _stop(session: Session, job: Job) -> None:
    """job: locked, and not ended."""
    job.cancel_requested = True
    if job.state == JobState.RUNNING.value:
        events.append(session, job, ("state", {"state": job.state, "from": job.state, "cancel_requested": True}))
    else:
        move(session, job, JobState.CANCELLED)
    session.flush()


def _tell(session: Session, actor: Actor, job: Job, request_id: str | None) -> None:
    audit.record(session, actor, "job.cancel_requested", job.id, project_id=job.project_id, request_id=request_id)


def preempt(session: Session, job_id: UUID) -> Job:
    """Ask for a running job's worker: it writes a checkpoint, waits again and continues later."""
    job = lock(session, job_id)
    _ask_to_give_way(session, job)
    return job


def preempt_all(session: Session, job_ids: Set[UUID]) -> None:
    """The same of many, but of those that another transaction has its hand on: they may be over in a moment.

    Whoever decides about all jobs waits for none of them.
    """
    if job_ids:
        chosen = locked(Job.id.in_(job_ids)).order_by(Job.id).with_for_update(key_share=True, skip_locked=True)
        for job in session.scalars(chosen).all():
            _ask_to_give_way(session, job)


def _ask_to_give_way(session: Session, job: Job) -> None:
    if job.state == JobState.RUNNING.value and not job.preempt_requested:
        job.preempt_requested = True
        events.append(session, job, ("state", {"state": job.state, "from": job.state, "preempt_requested": True}))
        session.flush()

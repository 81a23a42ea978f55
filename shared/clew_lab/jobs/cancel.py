"""Ask a job to stop. Who runs it learns of it within about a second."""

from uuid import UUID

from sqlalchemy.orm import Session

from clew_lab.catalogue import scope
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Audit, Job
from clew_lab.jobs import events
from clew_lab.jobs.moves import lock, move
from clew_spec.errors import Conflict
from clew_spec.jobs import JobState
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
    job.cancel_requested = True
    if job.state == JobState.RUNNING.value:
        events.append(session, job, ("state", {"state": job.state, "from": job.state, "cancel_requested": True}))
    else:
        move(session, job, JobState.CANCELLED)
    session.add(
        Audit(
            project_id=job.project_id,
            key_id=actor.key_id,
            user_id=actor.user_id,
            action="job.cancel_requested",
            target=str(job.id),
            request_id=request_id,
        )
    )
    session.flush()
    return job


def preempt(session: Session, job_id: UUID) -> Job:
    """Ask for a running job's worker: it writes a checkpoint, waits again and continues later."""
    job = lock(session, job_id)
    if job.state == JobState.RUNNING.value and not job.preempt_requested:
        job.preempt_requested = True
        events.append(session, job, ("state", {"state": job.state, "from": job.state, "preempt_requested": True}))
        session.flush()
    return job

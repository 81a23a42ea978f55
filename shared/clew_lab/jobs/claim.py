"""A worker answers a bell."""

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Attempt, Job, Metric
from clew_lab.jobs.moves import Fenced, hold, move
from clew_lab.jobs.workers import answered
from clew_spec.jobs import JobState


def claim(session: Session, job_id: UUID, fence: int, worker_id: UUID, *, lease_s: float) -> Job | None:
    """Take the job that was dispatched to this worker under `fence`; None where the bell is stale, or was answered."""
    answered(session, worker_id)
    try:
        job = hold(session, job_id, fence, JobState.DISPATCHED)
    except Fenced:
        return None
    if job.worker_id != worker_id:
        return None
    job.started_at = func.coalesce(Job.started_at, func.now())
    job.progress = None
    session.add(Attempt(project_id=job.project_id, job_id=job.id, fence=fence, worker_id=worker_id))
    _hide_what_is_done_again(session, job)
    move(session, job, JobState.RUNNING, lease_s=lease_s, resume_step=(job.checkpoint or {}).get("step"))
    return job


def _hide_what_is_done_again(session: Session, job: Job) -> None:
    """Earlier attempts' points past the checkpoint; this attempt will measure them anew."""
    step = -1 if job.checkpoint is None else job.checkpoint["step"]
    session.execute(
        update(Metric).where(Metric.job_id == job.id, Metric.fence < job.fence, Metric.step > step).values(hidden=True)
    )

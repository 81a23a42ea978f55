"""How an attempt ends: each ending is one fenced transaction.

Three counts are kept apart: a failure is the job's own and spends its retries, a loss is the worker's, a preemption
is ours.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.publish import Uploaded, publish
from clew_lab.catalogue.tables import Attempt, Job
from clew_lab.jobs.moves import hold, move
from clew_lab.jobs.quotas import require_space
from clew_lab.jobs.share import charge
from clew_spec.errors import Problem
from clew_spec.jobs import JobState
from clew_spec.results import Result


def succeed(session: Session, job_id: UUID, fence: int, result: Result, files: Sequence[Uploaded]) -> None:
    """Publish what the attempt made.

    Raises `Fenced`, `DataError` where the result names a file that is missing, and `OverQuota` where it is more than
    was expected of the job and the project has no room for it.
    """
    job = hold(session, job_id, fence)
    require_space(session, job.project_id, sum(file.size for file in files), counted=job.expected_bytes)
    records = publish(session, job, result, files)
    job.result = result.model_dump(mode="json")
    job.error = None
    _end_attempt(session, job, "succeeded")
    move(session, job, JobState.SUCCEEDED, records=[str(id) for id in records])


def fail(session: Session, job_id: UUID, fence: int, problem: Problem, *, retryable: bool) -> None:
    """The job failed by its own fault. It is tried again if that may help and it has retries left. Raises `Fenced`."""
    job = hold(session, job_id, fence)
    job.failure_count += 1
    error = problem.model_dump(mode="json", exclude_none=True)
    _end_attempt(session, job, "failed", error)
    if retryable and job.failure_count <= job.max_retries:
        to = JobState.CANCELLED if job.cancel_requested else JobState.QUEUED
        move(session, job, to, reason="failed", error=error)
    else:
        _failed(session, job, error)


def cancelled(session: Session, job_id: UUID, fence: int) -> None:
    """The runner stopped because it was told to. Raises `Fenced`."""
    job = hold(session, job_id, fence)
    _end_attempt(session, job, "cancelled")
    move(session, job, JobState.CANCELLED)


def preempted(session: Session, job_id: UUID, fence: int, *, reason: str = "preempted") -> None:
    """Back to waiting, with the same priority and age. Raises `Fenced`."""
    job = hold(session, job_id, fence)
    job.preempt_count += 1
    _end_attempt(session, job, "preempted")
    move(session, job, JobState.CANCELLED if job.cancel_requested else JobState.QUEUED, reason=reason)


def lost(session: Session, job_id: UUID, fence: int, problem: Problem, *, max_lost: int) -> None:
    """The worker, or its runner, died under the job. Raises `Fenced`."""
    give_back(session, hold(session, job_id, fence), problem, max_lost=max_lost)


def give_back(session: Session, job: Job, problem: Problem, *, max_lost: int) -> None:
    """A locked, running job lost its holder: it waits again, unless that happened too often."""
    job.lost_count += 1
    error = problem.model_dump(mode="json", exclude_none=True)
    _end_attempt(session, job, "lost", error)
    if job.cancel_requested:
        move(session, job, JobState.CANCELLED, reason="lost", error=error)
    elif job.lost_count > max_lost:
        _failed(session, job, {**error, "hint": f"{job.lost_count} attempts were lost; the limit is {max_lost}"})
    else:
        move(session, job, JobState.QUEUED, reason="lost", error=error)


def _failed(session: Session, job: Job, error: dict[str, Any]) -> None:
    job.error = error
    move(session, job, JobState.FAILED, error=error)


def _end_attempt(session: Session, job: Job, outcome: str, error: dict[str, Any] | None = None) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job.id, Attempt.fence == job.fence)
        .values(ended_at=func.now(), outcome=outcome, error=error)
    )
    charge(session, job)

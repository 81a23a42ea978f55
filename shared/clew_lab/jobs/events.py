"""What happened to a job, numbered without a hole under the job's row lock, so that no reader misses one.

Numbers from a sequence would commit out of order: a reader who has seen 8 would never look for a late 7.
"""

from typing import Any, Literal

from sqlalchemy import func
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Event, Job
from clew_lab.jobs.notify import notify_job

EventType = Literal["state", "progress", "metric", "log", "checkpoint", "artifact"]
Entry = tuple[EventType, dict[str, Any]]


def append(session: Session, job: Job, *entries: Entry) -> None:
    """Add events to a job whose row this transaction has locked."""
    session.add_all(
        Event(project_id=job.project_id, job_id=job.id, seq=seq, fence=job.fence, type=type, data=data)
        for seq, (type, data) in enumerate(entries, job.last_seq + 1)
    )
    job.last_seq += len(entries)
    job.updated_at = func.now()
    notify_job(session, job.id)

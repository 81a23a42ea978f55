"""What happened to a job, numbered without a hole under the job's row lock, so that no reader misses one.

Numbers from a sequence would commit out of order: a reader who has seen 8 would never look for a late 7.
"""

import json
from typing import Any, Literal

from sqlalchemy import func, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job
from clew_lab.jobs.notify import JOBS

EventType = Literal["state", "progress", "metric", "log", "checkpoint", "artifact"]
Entry = tuple[EventType, dict[str, Any]]

FIRST = """
    insert into events (project_id, job_id, seq, fence, type, data)
    select project_id, id, last_seq, fence, 'state', jsonb_build_object('state', state, 'from', null) from job
"""
"""Of jobs that were just inserted, in SQL, of rows named `job`."""

_APPEND = text(f"""
    with event as (
        insert into events (project_id, job_id, seq, fence, type, data)
        select :project_id, :job_id, :last_seq + seq, :fence, entry ->> 0, entry -> 1
        from jsonb_array_elements(cast(:entries as jsonb)) with ordinality as of_job (entry, seq)
    )
    select pg_notify('{JOBS}', cast(:job_id as text))
""")  # noqa: S608  # the name of a channel


def append(session: Session, job: Job, *entries: Entry) -> None:
    """Add events to a job whose row this transaction has locked, and ring its bell: one statement for all of them."""
    of_job = {"project_id": job.project_id, "job_id": job.id, "last_seq": job.last_seq, "fence": job.fence}
    job.last_seq += len(entries)
    job.updated_at = func.now()
    session.execute(_APPEND, {**of_job, "entries": json.dumps(entries)})

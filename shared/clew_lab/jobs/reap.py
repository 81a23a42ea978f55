"""Take jobs back from those who fell silent."""

from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job
from clew_lab.jobs.finalise import give_back
from clew_lab.jobs.moves import HELD, locked, move
from clew_lab.jobs.workers import unanswered
from clew_spec.errors import Problem
from clew_spec.jobs import JobState

BATCH = 100
_LOCK = 0x636C6579
"""Key of the advisory lock of whoever reaps: two of them could charge the same projects, each in another order."""


def reap(session: Session, *, max_lost: int, rest_s: float = 30) -> list[UUID]:
    """Return jobs whose lease lapsed to the queue; says which. Any number of processes may do this; one at a time does.

    An unanswered bell is not a loss: only a worker that had claimed the job counts as lost. Whoever left it unanswered
    is given nothing for `rest_s`, and longer where it did so before.
    """
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    lapsed = locked(Job.state.in_([state.value for state in HELD]), Job.lease_expires_at < func.now())
    lapsed = lapsed.order_by(Job.lease_expires_at).limit(BATCH).with_for_update(key_share=True, skip_locked=True)
    jobs = session.scalars(lapsed).all()
    deaf = [job.worker_id for job in jobs if job.state == JobState.DISPATCHED.value and job.worker_id is not None]
    unanswered(session, deaf, rest_s=rest_s)
    for job in jobs:
        if job.state == JobState.DISPATCHED.value:
            move(session, job, JobState.QUEUED, reason="unanswered")
        else:
            give_back(session, job, SILENT, max_lost=max_lost)
    return [job.id for job in jobs]


SILENT = Problem(
    type="urn:clew:worker-lost",
    title="The worker was lost",
    status=500,
    detail="the worker that ran the job fell silent until its lease lapsed",
)

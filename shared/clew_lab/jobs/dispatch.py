"""Choose which waiting jobs run next: never more than there are free workers.

Order: priority; then what the project has used over its weight; then age.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job
from clew_lab.jobs.moves import move
from clew_spec.jobs import JobState

HALF_LIFE_DAYS = 7
"""After this long a worker-second counts half; Slurm's default is the same."""
_LOCK = 0x636C6578

_FREE = text("""
    -- One statement, so one snapshot: between two of them a claim could make a worker look free twice.
    select pool, count(*) - (select count(*) from jobs where state = 'dispatched' and jobs.pool = workers.pool) as free
    from workers
    where beat_at > now() - make_interval(secs => :alive_s) and not draining
      and not exists (select from jobs where state = 'running' and worker_id = workers.id)
    group by pool
""")

_NEXT = text("""
    with spans as (
        select project_id, started_at, coalesce(ended_at, now()) as ended_at
        from attempts
        where started_at > now() - make_interval(days => 8 * :half_life)
    ), usage as (
        select project_id, sum(
            extract(epoch from ended_at - started_at)
            * 0.5 ^ (extract(epoch from now() - ended_at) / (86400 * :half_life))
        ) as seconds
        from spans group by project_id
    )
    select jobs.id
    from jobs
    join projects on projects.id = jobs.project_id
    left join usage on usage.project_id = jobs.project_id
    where jobs.state = 'queued' and jobs.pool = :pool
    order by jobs.priority desc, coalesce(usage.seconds, 0) / projects.weight, jobs.created_at, jobs.id
    limit :free
    for no key update of jobs skip locked
""")


@dataclass(frozen=True)
class Bell:
    """What is rung: all that a message carries."""

    job_id: UUID
    fence: int
    pool: str


def dispatch(session: Session, *, lease_s: float, alive_s: float) -> list[Bell]:
    """Give waiting jobs to free workers. Ring the bells after the caller has committed.

    lease_s: how long a bell may go unanswered. alive_s: how old a live worker's beat may be.
    """
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    bells = []
    for pool, free in session.execute(_FREE, {"alive_s": alive_s}).all():
        for job in _next(session, pool, free):
            job.fence += 1
            move(session, job, JobState.DISPATCHED, lease_s=lease_s)
            bells.append(Bell(job.id, job.fence, pool))
    return bells


def _next(session: Session, pool: str, free: int) -> list[Job]:
    if free <= 0:
        return []
    ids = session.scalars(_NEXT, {"pool": pool, "free": free, "half_life": HALF_LIFE_DAYS}).all()
    fresh = select(Job).where(Job.id.in_(ids)).execution_options(populate_existing=True)
    jobs = {job.id: job for job in session.scalars(fresh)}
    return [jobs[id] for id in ids]

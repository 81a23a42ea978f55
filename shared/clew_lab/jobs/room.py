"""Make room for jobs that no free worker can run: keep one that will be free, or have low jobs give way."""

import json
from collections.abc import Iterator, Sequence, Set
from datetime import UTC, datetime
from math import inf
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Worker
from clew_lab.jobs.cancel import preempt_all
from clew_lab.jobs.choice import Candidate, Choice
from clew_lab.jobs.floor import Holder, beside, offer
from clew_lab.jobs.needs import COLUMNS, FITS, OFFERS, Needs

_ABLE = text(f"""
    select workers.id, jobs.id as job_id, {COLUMNS}
    from {OFFERS} join jobs on jobs.id = any(:jobs) and jobs.priority = workers.priority
    where {FITS} order by workers.place
""")  # noqa: S608  # fixed texts
_LATEST = datetime.max.replace(tzinfo=UTC)


def reserve(session: Session, passed: Sequence[Candidate], pool: Sequence[Holder], holders: Sequence[Holder]) -> None:
    """Keep for each job the worker of its pool that fits it and will be free first, as far as that can be told.

    It fits where there is room beside what other workers are kept for: so what they are kept for will fit at once.
    """
    reserved = {holder.kept.id for holder in pool if holder.kept is not None}
    held = frozenset(holder.job_id for holder in holders if holder.job_id is not None)
    waiting = [job for job in passed if job.id not in reserved]
    open_ = [holder for holder in pool if holder.live and holder.kept is None]
    open_.sort(key=lambda holder: _soon(holder, holders))
    while waiting and open_:
        offers = [
            {**offer(holder, holders, priority, held), "place": place}
            for priority in {job.priority for job in waiting}
            for place, holder in enumerate(open_)
        ]
        asked = {"jobs": [job.id for job in waiting], "offers": json.dumps(offers)}
        able = {row.job_id: row for row in reversed(session.execute(_ABLE, asked).all())}
        first = next((place for place, job in enumerate(waiting) if job.id in able), None)
        if first is None:
            return
        job, found = waiting[first], able[waiting[first].id]
        session.execute(update(Worker).where(Worker.id == found.id).values(reserved_for=job.id))
        chosen = next(holder for holder in open_ if holder.id == found.id)
        chosen.keep(job, Needs.of(found))
        open_.remove(chosen)
        waiting = waiting[first + 1 :]


def _soon(holder: Holder, holders: Sequence[Holder]) -> tuple[bool, float, datetime]:
    """By what a worker comes sooner than another: by its own job or, without one, by those that take its room."""
    jobs = [holder] if holder.job_id is not None else [other for other in beside(holder, holders) if other.job_id]
    return max(
        (
            (not each.preempt_requested, inf if each.eta_s is None else each.eta_s, each.started_at or _LATEST)
            for each in jobs
        ),
        default=(True, inf, _LATEST),
    )


def gives_way(holder: Holder, low: Sequence[Holder]) -> tuple[bool, datetime] | None:
    """By what it is sooner asked than another for the room of low jobs, its own or beside it; None without any."""
    own = [holder] if holder in low else beside(holder, low)
    return max(((each.preempt_requested, each.started_at or _LATEST) for each in own), default=None)


def preempt_for(session: Session, choice: Choice, low: Sequence[Holder], holders: Sequence[Holder]) -> None:
    """Ask low jobs on and beside the chosen workers to give way, the newest first and no more than it takes."""
    of_worker = {holder.id: holder for holder in holders}
    asked = {each.job_id for each in low if each.job_id is not None and each.preempt_requested}
    newly: set[UUID] = set()
    for job, worker_id in choice.given:
        for job_id in _in_the_way(session, job, of_worker[worker_id], low, holders, asked | newly):
            newly.add(job_id)
    preempt_all(session, newly)


def _in_the_way(
    session: Session,
    job: Candidate,
    holder: Holder,
    low: Sequence[Holder],
    holders: Sequence[Holder],
    asked: Set[UUID],
) -> Iterator[UUID]:
    gone = set(asked)
    if holder.job_id is not None and holder.job_id not in gone:
        gone.add(holder.job_id)
        yield holder.job_id
    others = [each for each in beside(holder, low) if each.job_id not in gone]
    for other in sorted(others, key=lambda each: each.started_at or _LATEST, reverse=True):
        offers = json.dumps([offer(holder, holders, job.priority, gone)])
        if other.job_id is None or session.execute(_ABLE, {"jobs": [job.id], "offers": offers}).first():
            return
        gone.add(other.job_id)
        yield other.job_id

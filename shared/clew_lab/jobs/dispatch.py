"""Give waiting jobs to free workers: never more than there are, each to one that has what the job needs.

`choice` has the rule. Of the jobs that wait only the first ones of each project and priority are read, by the index
`ix_jobs_waiting`, so that a decision costs as much with a hundred waiting jobs as with a hundred thousand.
"""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job, Worker
from clew_lab.jobs import share
from clew_lab.jobs.choice import Candidate, Choice, Free, choose
from clew_lab.jobs.floor import Holder, floor, offer
from clew_lab.jobs.moves import locked, move
from clew_lab.jobs.needs import COLUMNS, FITS, OFFERS, Needs
from clew_lab.jobs.room import gives_way, preempt_for, reserve
from clew_lab.jobs.share import Account
from clew_spec.jobs import JobState

LOCK = 0x636C6578
"""Key of the advisory lock under which it is decided who runs."""
RESERVE_AFTER_S = 600.0
BANDS = (1, 0, -1)
SORT = f"priority, {COLUMNS}"
SHAPE = ", ".join(f"shapes.{column}" for column in COLUMNS.split(", "))

_WAITING = text(f"""
    -- Columns as `Candidate` has them.
    with recursive shapes as (
        -- One step of the index for each sort of need, however many jobs there are of it.
        select least.* from unnest(cast(:bands as int[])) as band (priority) cross join lateral (
            select {SORT} from jobs where state = 'queued' and pool = :pool and priority = band.priority
            order by {COLUMNS} limit 1
        ) least
        union all
        select next.* from shapes cross join lateral (
            select {SORT} from jobs
            where state = 'queued' and pool = :pool and priority = shapes.priority and ({COLUMNS}) > ({SHAPE})
            order by {COLUMNS} limit 1
        ) next
    ), able as materialized (
        -- For a worker that none of them fits, all that wait would be looked at.
        select id, place, priority, on_gpu, gpus, cpus, ram_bytes, memory_bytes,
               open and exists (
                   select from shapes as jobs where jobs.priority = workers.priority and {FITS}
               ) as open
        from {OFFERS}
    )
    select jobs.id, jobs.project_id, jobs.priority, jobs.created_at,
           array(
               select workers.id from able as workers where workers.priority = jobs.priority and {FITS}
               order by workers.place
           ) as fits,
           jobs.created_at < now() - make_interval(secs => :reserve_after_s) as aged
    from (
        select given.* from unnest(cast(:projects as uuid[])) as of_project (id)
        cross join unnest(cast(:bands as int[])) as band (priority)
        cross join lateral (
            (
                select id, project_id, priority, created_at, {COLUMNS} from jobs
                where state = 'queued' and pool = :pool and project_id = of_project.id and priority = band.priority
                order by created_at, id limit 1
            )
            union all
            (
                select id, project_id, priority, created_at, {COLUMNS} from jobs
                where state = 'queued' and pool = :pool and project_id = of_project.id and priority = band.priority
                  and exists (
                      select from able as workers where workers.open and workers.priority = band.priority and {FITS}
                  )
                order by created_at, id
                limit (select count(*) from able where able.open and able.priority = band.priority)
            )
        ) as given
        union all
        select id, project_id, priority, created_at, {COLUMNS} from jobs
        where id = any(cast(:kept as uuid[])) and state = 'queued' and priority = any(cast(:bands as int[]))
    ) as jobs
""")  # noqa: S608  # fixed texts


@dataclass(frozen=True)
class Bell:
    """What is rung: a message carries the job and the fence, and goes to the worker of this name."""

    job_id: UUID
    fence: int
    worker: str
    pool: str


def dispatch(
    session: Session, *, lease_s: float, alive_s: float, reserve_after_s: float = RESERVE_AFTER_S
) -> list[Bell]:
    """Give waiting jobs to free workers, and make room where none is. Ring the bells after the caller has committed.

    lease_s: how long a bell may go unanswered. alive_s: how old a live worker's beat may be. reserve_after_s: how long
    a job that few workers fit may be passed by smaller ones.
    """
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
    accounts = share.accounts(session)
    holders = floor(session, alive_s=alive_s)
    bells = []
    for pool in sorted({holder.pool for holder in holders if holder.live}):
        turn = _Turn(session, pool, holders, accounts, reserve_after_s)
        bells += turn.give(lease_s)
        turn.make_room()
    return bells


class _Turn:
    """One pool's part of a decision."""

    def __init__(
        self, session: Session, pool: str, holders: list[Holder], accounts: dict[UUID, Account], reserve_after_s: float
    ) -> None:
        self._session = session
        self._pool = pool
        self._holders = holders
        self._own = [holder for holder in holders if holder.pool == pool]
        self._accounts = accounts
        self._reserve_after_s = reserve_after_s

    def give(self, lease_s: float) -> list[Bell]:
        """Until nothing more can be given: of jobs that want the same worker the first may hide one behind them."""
        bells: list[Bell] = []
        while given := self._give_once(lease_s):
            bells += given
        return bells

    def _give_once(self, lease_s: float) -> list[Bell]:
        free = {holder.id: holder for holder in self._own if holder.idle}
        waiting = self._waiting(list(free.values()), BANDS)
        slots = [Free(holder.id, holder.kept, holder.places) for holder in free.values()]
        choice = choose(slots, waiting, self._accounts)
        reserve(self._session, choice.passed, self._own, self._holders)
        bells = []
        for job, worker_id in _locked(self._session, choice):
            job.fence += 1
            job.worker_id = worker_id
            move(self._session, job, JobState.DISPATCHED, lease_s=lease_s)
            bells.append(Bell(job.id, job.fence, free[worker_id].name, self._pool))
            free[worker_id].hold(job.id, Needs.of(job))
        given = {bell.job_id for bell in bells}
        kept = [holder for holder in self._own if holder.kept is not None and holder.kept.id in given]
        if kept:
            self._session.execute(update(Worker).where(Worker.reserved_for.in_(given)).values(reserved_for=None))
            for holder in kept:
                holder.keep(None)
        return bells

    def make_room(self) -> None:
        """Have low jobs make room for high ones: a second choice, as if none of them were there."""
        low = [holder for holder in self._holders if holder.makes_room]
        ways = {holder.id: way for holder in self._own if (way := gives_way(holder, low))}
        able = [holder for holder in self._own if holder.id in ways and (holder.makes_room or holder.idle)]
        able.sort(key=lambda holder: ways[holder.id], reverse=True)
        waiting = self._waiting(able, BANDS[:1], gone={holder.job_id for holder in low if holder.job_id is not None})
        supposed = {id: replace(account) for id, account in self._accounts.items()}
        choice = choose([Free(holder.id, holder.kept) for holder in able], waiting, supposed)
        preempt_for(self._session, choice, low, self._holders)

    def _waiting(
        self, workers: Sequence[Holder], bands: Sequence[int], gone: Set[UUID] = frozenset()
    ) -> list[Candidate]:
        """Jobs of these priorities, for workers that are taken for free; the first ones are preferred.

        gone: jobs that are supposed to have made room.
        """
        if not workers:
            return []
        offers = [
            {**offer(holder, self._holders, priority, gone), "place": place, "open": holder.open_to(priority)}
            for priority in bands
            for place, holder in enumerate(workers)
        ]
        rows = self._session.execute(
            _WAITING,
            {
                "offers": json.dumps(offers),
                "kept": [holder.kept.id for holder in workers if holder.kept is not None],
                "projects": [id for id, account in self._accounts.items() if not account.full],
                "bands": list(bands),
                "pool": self._pool,
                "reserve_after_s": self._reserve_after_s,
            },
        )
        return list({row[0]: Candidate(*row) for row in rows}.values())  # the oldest may fit as well


def _locked(session: Session, choice: Choice) -> list[tuple[Job, UUID]]:
    """The chosen jobs, but those that another transaction has its hand on: they may be gone in a moment."""
    if not choice.given:
        return []
    chosen = locked(Job.id.in_([job.id for job, _ in choice.given]), Job.state == JobState.QUEUED.value)
    jobs = {job.id: job for job in session.scalars(chosen.with_for_update(key_share=True, skip_locked=True))}
    return [(jobs[job.id], worker_id) for job, worker_id in choice.given if job.id in jobs]

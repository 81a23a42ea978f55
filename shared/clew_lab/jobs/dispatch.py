"""Give waiting jobs to free workers: never more than there are, each to one that has what the job needs.

`choice` has the rule. Of the jobs that wait only the first ones of each project and priority are read, by the index
`ix_jobs_waiting`, so that a decision costs as much with a hundred waiting jobs as with a hundred thousand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job, Worker
from clew_lab.jobs import share
from clew_lab.jobs.choice import Candidate, Choice, Free, choose
from clew_lab.jobs.moves import locked, move
from clew_lab.jobs.needs import COLUMNS, FITS
from clew_lab.jobs.room import Holder, preempt_for, reserve
from clew_lab.jobs.share import Account
from clew_spec.jobs import JobState

LOCK = 0x636C6578
"""Key of the advisory lock under which it is decided who runs."""
RESERVE_AFTER_S = 600.0
BANDS = (1, 0, -1)

_WORKERS = text("""
    -- One statement, so one snapshot: between two of them a claim could make a worker look free twice.
    select workers.id, workers.name, workers.pool, workers.memory_bytes, workers.beat_at,
           held.id as job_id, held.state as job_state, held.priority as job_priority, held.preempt_requested,
           attempts.started_at as job_started_at,
           kept.id as kept_id, kept.project_id as kept_project_id, kept.priority as kept_priority,
           kept.created_at as kept_created_at
    from workers
    left join jobs held on held.worker_id = workers.id and held.state in ('dispatched', 'running')
    left join attempts on attempts.job_id = held.id and attempts.fence = held.fence
    left join jobs kept on kept.id = workers.reserved_for and kept.state = 'queued'
    where workers.beat_at > now() - make_interval(secs => :alive_s) and not workers.draining
    order by workers.memory_bytes, workers.beat_at desc
""")

_WAITING = text(f"""
    -- Columns as `Candidate` has them.
    with able as materialized (
        select * from unnest(cast(:workers as uuid[])) with ordinality as given (id, place) join workers using (id)
    )
    select jobs.id, jobs.project_id, jobs.priority, jobs.created_at,
           array(select workers.id from able as workers where {FITS} order by workers.place) as fits,
           jobs.created_at < now() - make_interval(secs => :reserve_after_s) as aged
    from unnest(cast(:projects as uuid[])) as of_project (id)
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
              and exists (select from able as workers where {FITS})
            order by created_at, id limit cardinality(cast(:workers as uuid[]))
        )
    ) as jobs
""")  # noqa: S608  # fixed texts


@dataclass(frozen=True)
class Bell:
    """What is rung: a message carries the job and the fence, and goes to the worker of this name."""

    job_id: UUID
    fence: int
    worker: str


def dispatch(
    session: Session, *, lease_s: float, alive_s: float, reserve_after_s: float = RESERVE_AFTER_S
) -> list[Bell]:
    """Give waiting jobs to free workers, and make room where none is. Ring the bells after the caller has committed.

    lease_s: how long a bell may go unanswered. alive_s: how old a live worker's beat may be. reserve_after_s: how long
    a job that few workers fit may be passed by smaller ones.
    """
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
    accounts = share.accounts(session)
    holders = [_holder(row) for row in session.execute(_WORKERS, {"alive_s": alive_s})]
    bells = []
    for pool in sorted({holder.pool for holder in holders}):
        turn = _Turn(session, pool, [holder for holder in holders if holder.pool == pool], accounts, reserve_after_s)
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
        self._accounts = accounts
        self._reserve_after_s = reserve_after_s

    def give(self, lease_s: float) -> list[Bell]:
        """Until nothing more can be given: of jobs that want the same worker the first may hide one behind them."""
        bells: list[Bell] = []
        while given := self._give_once(lease_s):
            bells += given
        return bells

    def _give_once(self, lease_s: float) -> list[Bell]:
        free = {holder.id: holder for holder in self._holders if holder.job_id is None}
        choice = self._choose(list(free.values()), BANDS, self._accounts)
        reserve(self._session, choice.passed, self._holders)
        bells = []
        for job, worker_id in _locked(self._session, choice):
            job.fence += 1
            job.worker_id = worker_id
            move(self._session, job, JobState.DISPATCHED, lease_s=lease_s)
            bells.append(Bell(job.id, job.fence, free[worker_id].name))
            free[worker_id].job_id = job.id
        given = {bell.job_id for bell in bells}
        if any(holder.kept is not None and holder.kept.id in given for holder in self._holders):
            self._session.execute(update(Worker).where(Worker.reserved_for.in_(given)).values(reserved_for=None))
        return bells

    def make_room(self) -> None:
        """Have low jobs make room for high ones: a second choice, over the workers that run them."""
        low = [holder for holder in self._holders if holder.makes_room]
        if not low:
            return
        low.sort(key=lambda holder: (holder.preempt_requested, holder.started_at), reverse=True)
        supposed = {id: replace(account) for id, account in self._accounts.items()}
        preempt_for(self._session, self._choose(low, BANDS[:1], supposed), low)

    def _choose(self, holders: Sequence[Holder], bands: Sequence[int], accounts: Mapping[UUID, Account]) -> Choice:
        """Among jobs of these priorities, for workers that are taken for free; the first ones are preferred."""
        if not holders:
            return Choice()
        waiting = self._session.execute(
            _WAITING,
            {
                "workers": [holder.id for holder in holders],
                "projects": [id for id, account in accounts.items() if not account.full],
                "bands": list(bands),
                "pool": self._pool,
                "reserve_after_s": self._reserve_after_s,
            },
        )
        jobs = {row[0]: Candidate(*row) for row in waiting}  # the oldest may fit as well
        return choose([Free(holder.id, holder.kept) for holder in holders], jobs.values(), accounts)


def _locked(session: Session, choice: Choice) -> list[tuple[Job, UUID]]:
    """The chosen jobs, but those that another transaction has its hand on: they may be gone in a moment."""
    if not choice.given:
        return []
    chosen = locked(Job.id.in_([job.id for job, _ in choice.given]), Job.state == JobState.QUEUED.value)
    jobs = {job.id: job for job in session.scalars(chosen.with_for_update(key_share=True, skip_locked=True))}
    return [(jobs[job.id], worker_id) for job, worker_id in choice.given if job.id in jobs]


def _holder(row: Row[Any]) -> Holder:
    kept = None
    if row.kept_id is not None:
        kept = Candidate(row.kept_id, row.kept_project_id, row.kept_priority, row.kept_created_at, (), aged=True)
    return Holder(
        id=row.id,
        name=row.name,
        pool=row.pool,
        job_id=row.job_id,
        state=row.job_state,
        priority=row.job_priority,
        preempt_requested=bool(row.preempt_requested),
        started_at=row.job_started_at,
        kept=kept,
    )

"""The store as a state machine beside a plain model of it, on a real Postgres whose clock is ours.

Holders act whenever they like, also long after their lease: a worker that was stopped and wakes does just that. Bells
are answered late, twice or never. The clock stands still until it is told to move on; whoever is not asleep meanwhile
has renewed what it holds.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from tests.chaos.ledger import story
from tests.chaos.truth import (
    ALIVE_S,
    DISPATCH_LEASE_S,
    MACHINES,
    MAX_LOST,
    RUNNING_LEASE_S,
    SIZES,
    C,
    D,
    F,
    Holder,
    Q,
    R,
    S,
    Truth,
    Turn,
)
from tests.support.jobs import OOPS, Queue, change_project, dataset_result, job_request, uploaded

from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Artifact, Attempt, Dataset, Event, Job, Worker
from clew_lab.jobs import accept, cancel, finalise, reap, report, workers
from clew_lab.jobs.dispatch import Bell
from clew_lab.jobs.moves import HELD, Fenced
from clew_lab.jobs.needs import Needs
from clew_spec.errors import Conflict
from clew_spec.jobs import JobState

PROJECTS = 2
RESERVE_AFTER_S = 100
CLOCK = """
    create schema clock;
    create table clock.face (at timestamptz not null);
    insert into clock.face values ('2026-01-01');
    create function clock.now() returns timestamptz language sql stable as 'select at from clock.face';
    do $$ declare found record; begin
        for found in select table_name as "table", column_name as "column" from information_schema.columns
                     where table_schema = 'public' and column_default = 'now()' loop
            execute format('alter table public.%I alter %I set default clock.now()', found."table", found."column");
        end loop;
        execute format('alter database %I set search_path = clock, pg_catalog, public', current_database());
    end $$;
"""
"""A `now()` that is found before Postgres' own, by every connection that is opened after this one."""


class StoreMachine(RuleBasedStateMachine):
    queue: ClassVar[Queue]
    """On a database with `CLOCK`."""
    actors: ClassVar[list[Actor]]
    """Of `PROJECTS` projects."""

    def __init__(self) -> None:
        super().__init__()
        self.queue.clear()
        self.now = 0
        self.jobs: dict[UUID, Truth] = {}
        self.keys: dict[tuple[int, str], UUID] = {}
        self.quotas: dict[int, int | None] = {}
        self.bells: list[Bell] = []
        self.holders: list[Holder] = []
        self.beats: dict[str, int] = {}
        self.since: dict[str, Any] = {}
        self.draining: set[str] = set()
        self.unanswered: Counter[str] = Counter()
        self.rests: dict[str, int] = {}
        self._set_clock()
        for project in range(PROJECTS):
            self.limit(project, None)
        for name in SIZES:
            self.restart(name)

    # --- What users do -----------------------------------------------------------------------------------------------
    @rule(
        retries=st.integers(0, 1),
        project=st.integers(0, PROJECTS - 1),
        priority=st.sampled_from(list(accept.PRIORITIES)),
        size=st.integers(0, 2),
        key=st.sampled_from([None, None, None, "a"]),
    )
    def submit(self, retries: int, project: int, priority: str, size: int, key: str | None) -> None:
        """The same key comes with the same request."""
        request = job_request() if key else job_request(max_retries=retries, priority=priority)
        with self.queue.sessions.begin() as session:
            job, new = accept.accept(
                session,
                self.actors[project],
                accept.Asked(request, "t", needs=Needs(ram_alone=size)),
                idempotency_key=key,
            )
        earlier = self.keys.get((project, str(key)))
        assert new == (earlier is None)
        assert earlier in (None, job.id)
        if new:
            truth = Truth(request.max_retries, project, accept.PRIORITIES[request.priority], size)
            self.jobs[job.id] = truth
            if key:
                self.keys[project, key] = job.id

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 99))
    def cancel(self, n: int) -> None:
        job_id, truth = self._job(n)
        refused = False
        try:
            with self.queue.sessions.begin() as session:
                cancel.cancel(session, self.actors[truth.project], job_id)
        except Conflict:
            refused = True
        assert refused == (truth.state in (S, F) and not truth.cancel)
        if not truth.state.terminal:
            truth.cancel = True
            if truth.state is not R:
                truth.end(C)

    @precondition(lambda self: self.jobs)
    @rule(n=st.integers(0, 99))
    def preempt(self, n: int) -> None:
        job_id, truth = self._job(n)
        with self.queue.sessions.begin() as session:
            cancel.preempt(session, job_id)
        truth.preempt = truth.preempt or truth.state is R

    @rule(project=st.integers(0, PROJECTS - 1), most=st.sampled_from([None, 1, 2]))
    def limit(self, project: int, most: int | None) -> None:
        """Set the project's quota, also below what it has."""
        with self.queue.sessions.begin() as session:
            project_id = self.actors[project].project_id
            change_project(session, project_id, weight=1 + project, max_in_flight=most)
        self.quotas[project] = most

    # --- What schedulers do ------------------------------------------------------------------------------------------
    @rule()
    def a_scheduler_s_turn(self) -> None:
        self._reap()
        self._dispatch()

    def _reap(self) -> None:
        due = {id for id, truth in self.jobs.items() if truth.state in HELD and truth.lease_until < self.now}
        with self.queue.sessions.begin() as session:
            assert set(reap.reap(session, max_lost=MAX_LOST)) == due
        for truth in (self.jobs[id] for id in due):
            if truth.state is D and truth.worker is not None:
                self.rests[truth.worker] = self.now + DISPATCH_LEASE_S * 2 ** self.unanswered[truth.worker]
                self.unanswered[truth.worker] += 1
            truth.lost() if truth.state is R else truth.end(Q)

    def _dispatch(self) -> None:
        live = {name for name, at in self.beats.items() if at > self.now - ALIVE_S} - self.draining
        resting = {name for name, until in self.rests.items() if until > self.now}
        turn = Turn(self.jobs, live, resting, self.quotas)
        bells = self.queue.dispatch(reserve_after_s=RESERVE_AFTER_S)
        given = {bell.worker: self.jobs[bell.job_id] for bell in bells}
        assert len(given) == len(bells)
        for bell in bells:
            truth = self.jobs[bell.job_id]
            assert truth.state is Q
            assert bell.fence == truth.fence + 1
            truth.state, truth.fence, truth.worker = D, bell.fence, bell.worker
            truth.lease_until = self.now + DISPATCH_LEASE_S
        self.bells += bells
        with self.queue.sessions() as session:
            asked = session.scalars(select(Job.id).where(Job.preempt_requested, Job.finished_at.is_(None))).all()
            kept = session.execute(
                select(Worker.name, Job.id).join(Job, Job.id == Worker.reserved_for).where(Job.state == Q.value)
            ).all()
        newly = [self.jobs[id] for id in asked if not self.jobs[id].preempt]
        for truth in newly:
            truth.preempt = True
        turn.check(given, newly, {name: self.jobs[id] for name, id in kept})

    @precondition(lambda self: self.bells)
    @rule(n=st.integers(0, 99))
    def lose_a_bell(self, n: int) -> None:
        self.bells.pop(n % len(self.bells))

    # --- What workers do ---------------------------------------------------------------------------------------------
    @rule(name=st.sampled_from(list(SIZES)))
    def restart(self, name: str) -> None:
        """After SIGKILL or a drain: what it had is in nobody's hands."""
        worker_id = self.queue.register(name, memory_bytes=SIZES[name], machine=MACHINES.get(name))
        self._hears(name)
        with self.queue.sessions() as session:
            self.since[name] = session.get_one(Worker, worker_id).started_at
        self.beats[name] = self.now
        self.draining.discard(name)
        self.holders = [holder for holder in self.holders if holder.worker != name]

    @rule(name=st.sampled_from(list(SIZES)))
    def drain(self, name: str) -> None:
        with self.queue.sessions.begin() as session:
            workers.drain(session, self.queue.worker_ids[name])
        self.draining.add(name)

    @precondition(lambda self: self.bells)
    @rule(n=st.integers(0, 3), again=st.booleans(), astray=st.sampled_from([None, None, None, *SIZES]))
    def answer_a_bell(self, n: int, again: bool, astray: str | None) -> None:
        """again: the bell is rung twice. astray: the worker that hears it in place of the one it is for."""
        bell = self.bells[-1 - n % len(self.bells)]
        name = astray or bell.worker
        if name in self._idle():
            if not again:
                self.bells.remove(bell)
            self._answer(bell, name)

    def _answer(self, bell: Bell, name: str) -> None:
        truth = self.jobs[bell.job_id]
        due = truth.state is D and truth.fence == bell.fence and truth.worker == name
        assert (self.queue.claim(bell.job_id, bell.fence, name) is not None) == due
        self._hears(name)
        if due:
            truth.state, truth.lease_until = R, self.now + RUNNING_LEASE_S
            self.holders.append(Holder(name, bell.job_id, bell.fence))

    @precondition(lambda self: self.holders)
    @rule(n=st.integers(0, 99), again=st.booleans())
    def report(self, n: int, again: bool) -> None:
        """again: the answer to the last report was lost."""
        holder = self.holders[n % len(self.holders)]
        number = holder.told if again and holder.told else holder.told + 1
        entries: list[Any] = [("metric", {"step": number, "values": {"fvu": 0.5}})]

        def write(session: Session) -> None:
            report.report(
                session, holder.job_id, holder.fence, entries, number=number, metrics=[(number, {"fvu": 0.5})]
            )

        if self._written(holder, write):
            holder.told = number

    @precondition(lambda self: self.holders)
    @rule(n=st.integers(0, 99), step=st.integers(1, 9))
    def checkpoint(self, n: int, step: int) -> None:
        holder = self.holders[n % len(self.holders)]
        file = {"name": "state", "key": f"{holder.fence}/{step}", "sha256": "0" * 64, "size": 1}
        self._written(
            holder, lambda session: report.register_checkpoint(session, holder.job_id, holder.fence, step, [file])
        )

    @precondition(lambda self: self.holders)
    @rule(
        n=st.integers(0, 99),
        how=st.sampled_from(["succeed", "succeed", "fail", "retry", "cancelled", "preempted", "lost"]),
    )
    def end(self, n: int, how: str) -> None:
        holder = self.holders.pop(n % len(self.holders))
        truth, key = self.jobs[holder.job_id], (holder.job_id, holder.fence)
        job = self.queue.job(holder.job_id)
        ends: dict[str, tuple[Callable[[Session], Any], Callable[[], None]]] = {
            "succeed": (
                lambda session: finalise.succeed(session, *key, dataset_result(), [uploaded(job, holder.fence)]),
                lambda: truth.end(S),
            ),
            "fail": (lambda session: finalise.fail(session, *key, OOPS, retryable=False), lambda: truth.end(F)),
            "retry": (
                lambda session: finalise.fail(session, *key, OOPS, retryable=True),
                lambda: truth.back() if truth.failures <= truth.retries else truth.end(F),
            ),
            "cancelled": (lambda session: finalise.cancelled(session, *key), lambda: truth.end(C)),
            "preempted": (lambda session: finalise.preempted(session, *key), truth.back),
            "lost": (lambda session: finalise.lost(session, *key, OOPS, max_lost=MAX_LOST), truth.lost),
        }
        write, then = ends[how]
        if self._written(holder, write):
            truth.failures += how in ("fail", "retry")
            then()

    @rule(seconds=st.sampled_from([61, 31, 7]), asleep=st.sets(st.sampled_from(list(SIZES)), max_size=2))
    def time_passes(self, seconds: int, asleep: set[str]) -> None:
        self.now += seconds
        self._set_clock()
        for name in self.beats.keys() - asleep:
            with self.queue.sessions.begin() as session:
                asked = workers.beat(session, self.queue.worker_ids[name], self.since[name])
            assert asked == (name in self.draining)
            self.beats[name] = self.now
        for holder in [holder for holder in self.holders if holder.worker not in asleep]:
            self._beat(holder)

    @precondition(lambda self: self.holders)
    @rule(n=st.integers(0, 99))
    def oversleep(self, n: int) -> None:
        """A holder sleeps until its job runs elsewhere: what the fence is for, and rare among random courses."""
        holder = self.holders[n % len(self.holders)]
        self.time_passes(RUNNING_LEASE_S + 1, {holder.worker})
        self.a_scheduler_s_turn()
        for bell in [bell for bell in self.bells if bell.job_id == holder.job_id]:
            if bell.worker in self._idle():
                self._answer(bell, bell.worker)

    def _beat(self, holder: Holder) -> None:
        truth = self.jobs[holder.job_id]

        def write(session: Session) -> None:
            asked = report.beat(session, holder.job_id, holder.fence, lease_s=RUNNING_LEASE_S)
            assert asked == report.orders(session, holder.job_id, holder.fence)
            assert asked == report.Orders(cancel=truth.cancel, preempt=truth.preempt)

        if self._written(holder, write):
            truth.lease_until = self.now + RUNNING_LEASE_S

    def _written(self, holder: Holder, write: Callable[[Session], Any]) -> bool:
        """Whether it was, which it must be where the holder holds the job, and nowhere else."""
        try:
            with self.queue.sessions.begin() as session:
                write(session)
            written = True
        except Fenced:
            written = False
        assert written == self.jobs[holder.job_id].holds(holder.fence), f"{holder}: written: {written}"
        if not written and holder in self.holders:
            self.holders.remove(holder)
        return written

    # --- What holds at any time --------------------------------------------------------------------------------------
    @invariant()
    def the_store_is_what_it_must_be(self) -> None:
        with self.queue.sessions() as session:
            jobs = session.scalars(select(Job)).all()
            names = {row.id: row.name for row in session.scalars(select(Worker))}
            tables: tuple[Any, ...] = (Event, Attempt, Artifact, Dataset)
            of_job: dict[Any, dict[UUID, list[Any]]] = {table: defaultdict(list) for table in tables}
            for table, rows in of_job.items():
                for row in session.scalars(select(table)):
                    rows[row.job_id].append(row)
        assert {job.id for job in jobs} == self.jobs.keys()
        for job in jobs:
            truth, state = self.jobs[job.id], JobState(job.state)
            assert (state, job.fence, job.cancel_requested) == (truth.state, truth.fence, truth.cancel)
            assert job.preempt_requested == truth.preempt
            assert (job.failure_count, job.lost_count) == (truth.failures, truth.losses)
            assert list(story(job, of_job[Event][job.id], of_job[Attempt][job.id])) == []
            assert (job.lease_expires_at is not None) == (state in HELD)
            if state in HELD:
                assert job.worker_id is not None
                assert names[job.worker_id] == truth.worker
            artifacts = of_job[Artifact][job.id]
            assert len(artifacts) == len(of_job[Dataset][job.id]) == (state is S)
            assert all(artifact.fence == job.fence for artifact in artifacts)
            assert all(f"/{job.id}/{job.fence}/" in artifact.key for artifact in artifacts), "another attempt's file"

    @invariant()
    def no_worker_has_two_jobs(self) -> None:
        held = [truth.worker for truth in self.jobs.values() if truth.state in HELD]
        assert len(held) == len(set(held))

    @invariant()
    def jobs_ask_of_no_machine_together_for_more_than_it_has(self) -> None:
        asked: Counter[str] = Counter()
        for truth in self.jobs.values():
            if truth.state in HELD and truth.worker is not None:
                asked[MACHINES.get(truth.worker, truth.worker)] += truth.size
        has = {MACHINES.get(name, name): size for name, size in SIZES.items()}
        assert all(asked[place] <= has[place] for place in has), f"{asked}, which is more than there is"

    # --- The model's own ---------------------------------------------------------------------------------------------
    def _job(self, n: int) -> tuple[UUID, Truth]:
        return list(self.jobs.items())[n % len(self.jobs)]

    def _idle(self) -> list[str]:
        """Workers that would answer a bell."""
        busy = {holder.worker for holder in self.holders} | self.draining
        return [name for name in self.beats if name not in busy]

    def _hears(self, name: str) -> None:
        """It answered a bell, be it a stale one."""
        self.unanswered.pop(name, None)
        self.rests.pop(name, None)

    def _set_clock(self) -> None:
        with self.queue.sessions.begin() as session:
            at = "update clock.face set at = timestamptz '2026-01-01' + make_interval(secs => :now)"
            session.execute(text(at), {"now": self.now})

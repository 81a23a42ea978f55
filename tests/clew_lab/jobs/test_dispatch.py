"""Who runs next, and never more than there is room for."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from uuid import UUID

import pytest
from sqlalchemy import text, update
from tests.support.jobs import GIB, OOPS, Queue, change_project, dispatched, job_request, make_actor, needing

from clew_lab.catalogue.tables import Attempt, Project, Worker
from clew_lab.jobs import accept, dispatch, finalise, moves, share, workers
from clew_lab.jobs.dispatch import Bell
from clew_lab.jobs.needs import Needs
from clew_spec.jobs import JobState


def test_dispatchers_at_once_give_no_job_twice_and_fill_no_slot_twice(queue: Queue) -> None:
    """Eight dispatchers against workers that claim and finish all the while; a witness counts what is held."""
    slots, total = 3, 60
    names = [f"w{index}" for index in range(slots)]
    for name in names:
        queue.register(name)
    for _ in range(total):
        queue.accept()
    done = Flag()
    rung: list[Bell] = []
    most = 0

    def dispatcher(_: int) -> None:
        while not done.is_set():
            rung.extend(queue.dispatch())

    def witness() -> None:
        nonlocal most
        held = text("select count(*) from jobs where state in ('dispatched', 'running')")
        while not done.is_set():
            with queue.sessions() as session:
                most = max(most, session.scalars(held).one())

    def worker(name: str) -> int:
        finished = 0
        while not done.is_set():
            for bell in list(rung):
                job = queue.claim(bell.job_id, bell.fence, name) if bell.worker == name else None
                if job is not None:
                    with queue.sessions.begin() as session:
                        finalise.fail(session, job.id, bell.fence, OOPS, retryable=False)
                    rung.remove(bell)
                    finished += 1
        return finished

    with ThreadPoolExecutor(16) as pool:
        dispatchers = [pool.submit(dispatcher, index) for index in range(8)]
        watching = pool.submit(witness)
        working = [pool.submit(worker, name) for name in names]
        try:
            with queue.sessions() as session:
                left = text("select count(*) from jobs where state <> 'failed'")
                while session.scalars(left).one():
                    session.rollback()
                    assert not any(thread.done() for thread in dispatchers)
                    assert not any(thread.done() for thread in working)
                    assert not watching.done()
        finally:
            done.set()
        assert sum(thread.result() for thread in working) == total
    assert 1 <= most <= slots
    with queue.sessions() as session:
        assert session.query(Attempt).count() == total
        fences = session.scalars(text("select max(fence) from jobs")).one()
    assert fences == 1, "a job was dispatched twice"


def test_only_live_idle_workers_of_the_pool_that_do_not_drain_count(queue: Queue) -> None:
    job = queue.accept()
    assert dispatched(queue) == [], "no worker"
    queue.register("circuits", "circuits")
    assert dispatched(queue) == [], "another pool"
    silent = queue.register("silent")
    with queue.sessions.begin() as session:
        session.execute(update(Worker).where(Worker.id == silent).values(beat_at=text("now() - interval '1 minute'")))
    assert dispatched(queue) == [], "a silent worker"
    draining = queue.register("draining")
    with queue.sessions.begin() as session:
        workers.drain(session, draining)
    assert dispatched(queue) == [], "a draining worker"
    queue.register("free")
    assert dispatched(queue) == [job.id]
    behind = queue.accept()
    assert dispatched(queue) == [], "its slot is promised"
    assert queue.claim(job.id, 1, "free") is not None
    assert dispatched(queue) == [], "its slot is taken"
    queue.register("second")
    assert dispatched(queue) == [behind.id]


def test_order_is_priority_then_share_then_age(queue: Queue) -> None:
    heavy, light = queue.actor, make_actor(queue.sessions, "light")
    with queue.sessions.begin() as session:
        session.execute(update(Project).where(Project.name == "light").values(weight=2))
    used = queue.running()  # an attempt of the heavy project, running for a while
    with queue.sessions.begin() as session:
        session.execute(update(Attempt).values(started_at=text("now() - interval '1 hour'")))

    def ask(actor: object, **fields: str) -> UUID:
        with queue.sessions.begin() as session:
            return accept.accept(session, actor, accept.Asked(job_request(**fields), "text"))[0].id  # type: ignore[arg-type]

    old = ask(heavy)
    older_low = ask(light, priority="low")
    fair = ask(light)
    urgent = ask(heavy, priority="high")
    second = ask(heavy)
    order = []
    for number in range(5):
        queue.register(f"free{number}")
        order += dispatched(queue)
    assert order == [urgent, fair, old, second, older_low]
    assert queue.job(used.id).state == JobState.RUNNING


def test_use_is_forgotten_by_halves(queue: Queue) -> None:
    """An hour two weeks ago weighs a quarter of one now: less than half an hour now, and four hours weigh more."""
    long_ago, lately = queue.actor, make_actor(queue.sessions, "lately")
    queue.register("w")
    queue.accept(long_ago)
    queue.accept(lately)
    for hours, first in ((1, long_ago), (4, lately)):
        with queue.sessions.begin() as session:
            session.execute(text("update jobs set state = 'queued', lease_expires_at = null, worker_id = null"))
            session.execute(text("delete from usage"))
            for actor, seconds, at in ((long_ago, 3600 * hours, "14 days"), (lately, 1800, "0")):
                session.execute(
                    text("insert into usage values (:project, :seconds, now() - cast(:at as interval))"),
                    {"project": actor.project_id, "seconds": seconds, "at": at},
                )
        (chosen,) = dispatched(queue)
        assert queue.job(chosen).project_id == first.project_id


def test_a_job_goes_to_the_smallest_worker_that_has_what_it_needs(queue: Queue) -> None:
    """Small ones pass a big one that does not fit; a worker of unknown memory is refused nothing."""
    queue.register("small", memory_bytes=8 * GIB)
    queue.register("big", memory_bytes=80 * GIB)
    queue.register("gpu", device="cuda", memory_bytes=24 * GIB)
    jobs = {
        "huge": queue.accept(needs=needing(100)),
        "large": queue.accept(needs=needing(40)),
        "second": queue.accept(needs=needing(40)),
        "tiny": queue.accept(needs=needing(1)),
        "on a gpu": queue.accept(needs=Needs(gpus=1)),
    }
    names = {job.id: name for name, job in jobs.items()}
    assert {names[bell.job_id]: bell.worker for bell in queue.dispatch()} == {
        "large": "big",
        "tiny": "small",
        "on a gpu": "gpu",
    }
    queue.register("unknown", memory_bytes=0)
    assert {names[bell.job_id]: bell.worker for bell in queue.dispatch()} == {"huge": "unknown"}


def test_only_the_chosen_worker_claims(queue: Queue) -> None:
    for name in ("a", "b"):
        queue.register(name)
    queue.accept()
    (bell,) = queue.dispatch()
    other = {"a": "b", "b": "a"}[bell.worker]
    assert queue.claim(bell.job_id, bell.fence, other) is None
    assert queue.claim(bell.job_id, bell.fence, bell.worker) is not None


def test_a_worker_is_kept_for_a_big_job_that_was_passed_long_enough(queue: Queue) -> None:
    """Nobody of its band gets that worker before it, whoever has used less; a higher band does."""
    light = make_actor(queue.sessions, "light")
    queue.register("big", memory_bytes=80 * GIB)
    first = queue.accept()
    (bell,) = queue.dispatch()
    queue.claim(bell.job_id, bell.fence)
    queue.register("small", memory_bytes=8 * GIB)
    big = queue.accept(needs=needing(40))
    passing = queue.accept(light, needs=needing(1))
    assert dispatched(queue) == [passing.id], "not yet aged"
    with queue.sessions() as session:
        assert session.scalars(text("select count(reserved_for) from workers")).one() == 0
    with queue.sessions.begin() as session:
        finalise.fail(session, queue.claimed(passing.id), 1, OOPS, retryable=False)
    passing = queue.accept(light, needs=needing(1))
    assert [bell.job_id for bell in queue.dispatch(reserve_after_s=0)] == [passing.id], "backfill goes on"
    behind = queue.accept(light, needs=needing(1))
    with queue.sessions.begin() as session:
        finalise.fail(session, first.id, 1, OOPS, retryable=False)
    assert dispatched(queue) == [big.id], "and delays nobody"
    with queue.sessions() as session:
        assert session.scalars(text("select count(reserved_for) from workers")).one() == 0
    assert queue.job(behind.id).state == JobState.QUEUED


def test_a_low_job_makes_room_for_a_high_one(queue: Queue) -> None:
    """The newest-started one, once; and not where a worker is free, or for a job that it would not help."""
    low = []
    for number in range(2):
        queue.register(f"w{number}", memory_bytes=8 * GIB)
        low.append(queue.accept(priority="low"))
        (bell,) = queue.dispatch()
        queue.claim(bell.job_id, bell.fence)

    def asked() -> list[bool]:
        queue.dispatch()
        return [queue.job(job.id).preempt_requested for job in low]

    queue.accept(priority="normal")
    queue.accept(priority="high", needs=needing(40))
    assert asked() == [False, False]
    high = queue.accept(priority="high")
    assert asked() == [False, True]
    assert asked() == [False, True], "one is enough"
    with queue.sessions.begin() as session:
        finalise.preempted(session, low[1].id, 1)
    assert dispatched(queue) == [high.id]
    assert asked() == [False, False]


def test_a_decision_waits_for_no_job_that_another_has_its_hand_on(queue: Queue) -> None:
    """A low job's worker publishes for a while when a high job comes: it gives way later, or has ended."""
    queue.register("w")
    low = queue.accept(priority="low")
    queue.dispatch()
    queue.claimed(low.id)
    queue.accept(priority="high")
    with queue.sessions.begin() as publishing:
        moves.lock(publishing, low.id)
        with queue.sessions.begin() as session:
            session.execute(text("set local lock_timeout = '1s'"))
            assert dispatch.dispatch(session, lease_s=30, alive_s=30) == []
    assert not queue.job(low.id).preempt_requested
    queue.dispatch()
    assert queue.job(low.id).preempt_requested


def test_a_quota_is_never_passed(queue: Queue) -> None:
    other = make_actor(queue.sessions, "other")
    with queue.sessions.begin() as session:
        change_project(session, queue.actor.project_id, weight=9, max_in_flight=2)
    for number in range(6):
        queue.register(f"w{number}")
        queue.accept()
    queue.accept(other)
    taken = dispatched(queue)
    assert sorted(str(queue.job(id).project_id) for id in taken) == sorted(
        str(id) for id in (queue.actor.project_id, queue.actor.project_id, other.project_id)
    )
    assert dispatched(queue) == []
    ended = next(id for id in taken if queue.job(id).project_id == queue.actor.project_id)
    with queue.sessions.begin() as session:
        finalise.fail(session, queue.claimed(ended), 1, OOPS, retryable=False)
    assert len(dispatched(queue)) == 1


def test_what_ended_attempts_used_is_one_number_that_halves(queue: Queue) -> None:
    """Two attempts of an hour count as one of two that ended with the second; a minute at least while one runs."""
    job = queue.running()
    with queue.sessions() as session:
        assert share.accounts(session)[queue.actor.project_id].used == share.AHEAD_S

    def run(seconds: float) -> None:
        with queue.sessions.begin() as session:
            session.execute(text("update attempts set started_at = now() - make_interval(secs => :s)"), {"s": seconds})
            session.execute(text("update usage set at = at - make_interval(secs => :s)"), {"s": seconds})
            finalise.preempted(session, job.id, queue.job(job.id).fence)
        (bell,) = queue.dispatch()
        queue.claim(bell.job_id, bell.fence)

    def used() -> float:
        with queue.sessions() as session:
            return share.accounts(session)[queue.actor.project_id].used - share.AHEAD_S

    run(3600)
    run(3600)
    twice = used()
    with queue.sessions.begin() as session:
        session.execute(text("delete from usage"))
    run(7200)
    assert twice == pytest.approx(used(), abs=2)
    assert 7000 < twice < 7200
    with queue.sessions.begin() as session:
        session.execute(text("update usage set at = at - interval '7 days'"))
    assert used() == pytest.approx(twice / 2, abs=2)

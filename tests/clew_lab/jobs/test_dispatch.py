"""Who runs next, and never more than there is room for."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from uuid import UUID

from sqlalchemy import text, update
from tests.support.jobs import OOPS, Queue, job_request, make_actor

from clew_lab.catalogue.tables import Attempt, Project, Worker
from clew_lab.jobs import accept, finalise, workers
from clew_lab.jobs.dispatch import Bell
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
                job = queue.claim(bell.job_id, bell.fence, name)
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


def dispatched(queue: Queue) -> list[UUID]:
    return [bell.job_id for bell in queue.dispatch()]


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
            return accept.accept(session, actor, job_request(**fields), inputs={}, name="text")[0].id  # type: ignore[arg-type]

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
    """An hour two weeks ago weighs a quarter of one now: less than half an hour now."""
    long_ago, lately = queue.actor, make_actor(queue.sessions, "lately")
    for actor, started, ended in ((long_ago, "14 days 1 hour", "14 days"), (lately, "30 minutes", "0")):
        with queue.sessions.begin() as session:
            job, _ = accept.accept(session, actor, job_request(), inputs={}, name="text")
            session.execute(
                text(
                    "insert into attempts (project_id, job_id, fence, started_at, ended_at) values "
                    "(:project, :job, 1, now() - cast(:started as interval), now() - cast(:ended as interval))"
                ),
                {"project": actor.project_id, "job": job.id, "started": started, "ended": ended},
            )
    queue.register("w")
    (first,) = dispatched(queue)
    assert queue.job(first).project_id == long_ago.project_id
    with queue.sessions.begin() as session:
        session.execute(text("update jobs set state = 'queued', lease_expires_at = null"))
        session.execute(
            text("update attempts set ended_at = started_at + interval '4 hours' where project_id = :id"),
            {"id": long_ago.project_id},
        )
    (first,) = dispatched(queue)
    assert queue.job(first).project_id == lately.project_id

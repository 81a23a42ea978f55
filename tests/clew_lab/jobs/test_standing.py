"""What waiting jobs are told: that it is true, and that nothing is written where nothing changed."""

import random
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text, update
from tests.support.jobs import OOPS, Queue, change_project, dataset_result, make_actor, uploaded

from clew_lab.catalogue import queries
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Job, Project
from clew_lab.jobs import finalise, reap, standing
from clew_lab.jobs.needs import Needs
from clew_spec.api import Standing

GIB = 2**30


def look(queue: Queue, fresh_s: float = 0) -> bool:
    with queue.sessions.begin() as session:
        return standing.look(session, alive_s=30, fresh_s=fresh_s)


def seen(queue: Queue, job_id: UUID, actor: Actor | None = None) -> Standing:
    with queue.sessions() as session:
        view = queries.get_job(session, actor or queue.actor, job_id)
        [listed] = [
            job for job in queries.list_jobs(session, actor or queue.actor, limit=200).items if job.id == job_id
        ]
    assert view.standing is not None
    assert listed.standing is not None
    assert (listed.standing.position, listed.standing.reason) == (view.standing.position, view.standing.reason)
    return view.standing


@pytest.mark.parametrize("seed", range(4))
def test_positions_are_the_order_in_which_jobs_are_given_to_workers(queue: Queue, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    actors = [queue.actor, *(make_actor(queue.sessions, name) for name in ("b", "c"))]
    with queue.sessions.begin() as session:
        for actor in actors:
            weight = rng.choice([0.5, 1.0, 3.0])
            session.execute(update(Project).where(Project.id == actor.project_id).values(weight=weight))
            values = {"project": actor.project_id, "seconds": rng.uniform(0, 500)}
            session.execute(text("insert into usage values (:project, :seconds, now())"), values)
    jobs = [queue.accept(rng.choice(actors), priority=rng.choice(["low", "normal", "high"])) for _ in range(14)]
    look(queue)
    with queue.sessions() as session:
        rows = session.execute(text("select job_id, position from standings")).all()
    told = [row.job_id for row in sorted(rows, key=lambda row: row.position)]
    assert sorted(row.position for row in rows) == list(range(1, len(jobs) + 1))
    order = []
    for number in range(len(jobs)):
        queue.register(f"w{number}")
        order += [bell.job_id for bell in queue.dispatch()]
    assert order == told


def test_every_cause_is_told_in_a_sentence(queue: Queue) -> None:
    other = make_actor(queue.sessions, "other")
    job = queue.accept()

    def told(job_id: UUID = job.id, actor: Actor | None = None) -> tuple[str, str]:
        look(queue)
        found = seen(queue, job_id, actor)
        return found.cause, found.reason

    assert told() == ("no-worker", "no worker of the pool train is there")
    queue.register("w", memory_bytes=8 * GIB)
    assert told() == ("next", "a worker is free for it")
    large = queue.accept(needs=Needs(ram_alone=int(12.3 * GIB)))
    needs = "it needs about 12.3 GiB of memory, and the largest worker, w, has 8.0 GiB"
    assert told(large.id) == ("too-large", needs)
    gpu = queue.accept(needs=Needs(gpus=1))
    assert told(gpu.id) == ("too-large", "it needs a GPU, and no worker has one")
    with queue.sessions.begin() as session:
        session.execute(text("update workers set cpus = 4"))
    many = queue.accept(needs=Needs(cpus=64))
    assert told(many.id) == ("too-large", "it needs 64 CPUs, and no worker has more than 4")
    assert [bell.job_id for bell in queue.dispatch()] == [job.id]
    queue.claimed(job.id)
    later = queue.accept(other, priority="high")
    assert told(later.id, other) == ("busy", "the one worker that can run it is busy; it is next")
    behind = queue.accept(other)
    assert told(behind.id, other)[1] == "the one worker that can run it is busy; 2 jobs are ahead of it"
    heavy = queue.accept()
    with queue.sessions.begin() as session:
        session.execute(text("insert into usage values (:id, 1e5, now())"), {"id": queue.actor.project_id})
    cause, why = told(heavy.id)
    assert cause == "share"
    assert why.startswith("its project has used more of the workers for its weight than others that wait; ")
    with queue.sessions.begin() as session:
        change_project(session, queue.actor.project_id, max_in_flight=1)
    assert told(heavy.id) == ("quota", "its project has 1 job on workers, which is its quota")
    with queue.sessions.begin() as session:
        session.execute(text("update workers set reserved_for = :id"), {"id": behind.id})
    assert told(behind.id, other) == ("kept", "w, which can run it, is kept for it and still busy")


def test_a_free_worker_whose_room_others_take_is_no_worker_that_is_free_for_it(queue: Queue) -> None:
    for name in ("a", "b"):
        queue.register(name, memory_bytes=8 * GIB, machine="box")
    first = queue.accept(needs=Needs(ram_alone=6 * GIB))
    queue.dispatch()
    queue.claimed(first.id)
    with queue.sessions.begin() as session:
        progress = {"phase": "step", "done": 1, "total": 2, "unit": "steps", "eta_s": 100}
        session.execute(update(Job).where(Job.id == first.id).values(progress=progress))
    large, small = (queue.accept(needs=Needs(ram_alone=gib * GIB)) for gib in (6, 1))

    def told(job_id: UUID) -> tuple[str, str]:
        look(queue)
        found = seen(queue, job_id)
        return found.cause, found.reason

    where = "the machines of all 2 workers that can"
    assert told(large.id) == ("room", f"other jobs take what it needs on {where}; it is next")
    assert seen(queue, large.id).eta_s == pytest.approx(100, abs=5), "then that job ends"
    assert [bell.job_id for bell in queue.dispatch()] == [small.id]
    queue.lapse(small.id)
    with queue.sessions.begin() as session:
        finalise.fail(session, first.id, 1, OOPS, retryable=False)
        reap.reap(session, max_lost=5)
        session.execute(text("update workers set draining = (unanswered = 0)"))
    who = "the one worker that can run it does not answer"
    assert told(large.id) == ("unanswered", f"{who}, and will be tried again; it is next")


def test_the_start_is_judged_by_what_runs_and_by_what_such_jobs_took(queue: Queue) -> None:
    """Two workers, free after 100 and 1000 seconds; jobs of 300 seconds start after 100, 400, 700, then by turns."""
    for eta_s in (100, 1000):
        job = queue.running()
        with queue.sessions.begin() as session:
            progress = {"phase": "step", "done": 1, "total": 2, "unit": "steps", "eta_s": eta_s}
            session.execute(update(Job).where(Job.id == job.id).values(progress=progress))
    waiting = [queue.accept() for _ in range(5)]
    look(queue)
    etas = [seen(queue, job.id).eta_s for job in waiting]
    assert etas[0] == pytest.approx(100, abs=5)
    assert etas[1:] == [None] * 4, "nobody knows how long such a job takes"
    done = queue.running(priority="high")
    with queue.sessions.begin() as session:
        ago = text("update attempts set started_at = now() - interval '300 seconds' where job_id = :id")
        session.execute(ago, {"id": done.id})
        finalise.succeed(session, done.id, done.fence, dataset_result(), [uploaded(done, done.fence)])
        session.execute(text("update workers set draining = true where id = :id"), {"id": done.worker_id})
    look(queue)
    etas = [seen(queue, job.id).eta_s for job in waiting]
    assert etas == pytest.approx([100, 400, 700, 1000, 1150], abs=5)


def test_what_has_not_changed_is_not_written(queue: Queue) -> None:
    queue.running()
    jobs = [queue.accept() for _ in range(3)]

    def versions() -> list[str]:
        with queue.sessions() as session:
            return list(session.scalars(text("select cast(xmin as text) from standings order by position")))

    look(queue)
    before = versions()
    at = seen(queue, jobs[0].id).at
    look(queue)
    assert versions() == before
    assert seen(queue, jobs[0].id).at > at, "and yet it is known to be fresh"
    assert not look(queue, fresh_s=60), "another has looked"
    with queue.sessions.begin() as session:
        session.execute(
            text("update jobs set state = 'cancelled', finished_at = now() where id = :id"), {"id": jobs[0].id}
        )
    with queue.sessions() as session:
        assert queries.get_job(session, queue.actor, jobs[0].id).standing is None
    look(queue)
    assert [seen(queue, job.id).position for job in jobs[1:]] == [1, 2]
    with queue.sessions() as session:
        assert session.scalars(text("select count(*) from standings")).one() == 2
    assert timedelta(0) <= seen(queue, jobs[1].id).at - at

"""Workers on one machine: what they share, and which of them answers."""

from uuid import UUID

from sqlalchemy import text, update
from tests.support.jobs import GIB, OOPS, Queue, dispatched, make_actor, needing

from clew_lab.catalogue.tables import Job, Worker
from clew_lab.jobs import finalise, reap, workers
from clew_lab.jobs.needs import Needs


def test_workers_of_one_gpu_share_its_memory_and_of_one_machine_cpus_and_memory(queue: Queue) -> None:
    """Two pools on each card: one job after the other where both fill it, side by side where they do not."""
    has = {"cpus": 8, "ram_bytes": 64 * GIB, "machine": "box"}
    for pool in ("train", "circuits"):
        queue.register(f"{pool}-0", pool, 24 * GIB, "cuda:0", gpu_uuid="GPU-0", **has)
    queue.register("train-1", "train", 24 * GIB, "cuda:1", gpu_uuid="GPU-1", **has)
    queue.register("elsewhere", "train", 64 * GIB, ram_bytes=64 * GIB, cpus=8, machine="other")

    def circuit(**needs: int) -> UUID:
        job = queue.accept(needs=Needs(**needs))
        with queue.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job.id).values(pool="circuits"))
        return job.id

    def given() -> dict[UUID, str]:
        return {bell.job_id: bell.worker for bell in queue.dispatch()}

    def end(job_id: UUID) -> None:
        with queue.sessions.begin() as session:
            finalise.fail(session, queue.claimed(job_id), queue.job(job_id).fence, OOPS, retryable=False)

    first = circuit(gpu_memory=20 * GIB)
    assert given() == {first: "circuits-0"}
    filling = [queue.accept(needs=Needs(gpus=1, gpu_memory=20 * GIB)).id for _ in range(2)]
    assert given() == {filling[0]: "train-1"}, "the other card is full"
    small = queue.accept(needs=Needs(gpus=1, gpu_memory=4 * GIB)).id
    assert given() == {small: "train-0"}, "this much is left"
    end(small)
    end(first)
    assert given() == {filling[1]: "train-0"}
    waits = circuit(gpus=1)
    assert given() == {}, "one that asks for a whole card has none of it beside another"
    end(filling[1])
    assert given() == {waits: "circuits-0"}
    end(waits)
    end(filling[0])
    on_cpu = queue.accept(needs=Needs(cpus=6, ram=40 * GIB, ram_alone=40 * GIB)).id
    assert given() == {on_cpu: "train-1"}
    beside = [queue.accept(needs=Needs(cpus=6)).id, queue.accept(needs=Needs(ram=40 * GIB)).id]
    assert given() == {beside[0]: "elsewhere"}, "the machine has neither left"
    nothing = queue.accept().id
    assert given() == {nothing: "train-0"}, "what asks for nothing passes, and takes nothing"


def test_a_machine_with_a_job_for_which_a_worker_is_kept_is_not_filled_up_beside_it(queue: Queue) -> None:
    """Small jobs follow each other on the one worker of a card; the one of the other that needs all of it comes in."""
    for name in ("a", "b"):
        queue.register(name, memory_bytes=24 * GIB, device="cuda", machine="box", gpu_uuid="GPU-0")
    small = [queue.accept(needs=needing(4)).id for _ in range(2)]
    assert dispatched(queue) == small
    for job_id in small:
        queue.claimed(job_id)
    big = queue.accept(needs=needing(24))
    later = queue.accept(make_actor(queue.sessions, "light"), needs=needing(4))
    with queue.sessions.begin() as session:
        finalise.fail(session, small[0], 1, OOPS, retryable=False)
    assert [bell.job_id for bell in queue.dispatch()] == [later.id], "not yet aged"
    with queue.sessions.begin() as session:
        finalise.fail(session, queue.claimed(later.id), 1, OOPS, retryable=False)
    queue.dispatch(reserve_after_s=0)
    behind = queue.accept(make_actor(queue.sessions, "lighter"), needs=needing(4))
    assert dispatched(queue) == [], "the room is kept as the worker is"
    high = queue.accept(priority="high", needs=needing(4))
    assert dispatched(queue) == [high.id], "but not from higher ones"
    with queue.sessions.begin() as session:
        finalise.fail(session, queue.claimed(high.id), 1, OOPS, retryable=False)
        finalise.fail(session, small[1], 1, OOPS, retryable=False)
    assert dispatched(queue) == [big.id]
    with queue.sessions.begin() as session:
        finalise.fail(session, queue.claimed(big.id), 1, OOPS, retryable=False)
    assert dispatched(queue) == [behind.id]


def test_low_jobs_beside_a_free_worker_make_room_too(queue: Queue) -> None:
    """As many as it takes, the newest first, of either pool."""
    for name in ("a", "b", "free"):
        queue.register(name, memory_bytes=24 * GIB, machine="box")
    low: list[UUID] = []
    for _ in range(2):
        job = queue.accept(priority="low", needs=needing(8))
        queue.dispatch()
        low.append(queue.claimed(job.id))

    def asked() -> list[bool]:
        queue.dispatch()
        return [queue.job(job_id).preempt_requested for job_id in low]

    high = queue.accept(priority="high", needs=needing(12))
    assert asked() == [False, True]
    assert asked() == [False, True], "one is enough"
    with queue.sessions.begin() as session:
        finalise.preempted(session, low[1], 1)
    assert dispatched(queue) == [high.id]
    whole = queue.accept(priority="high", needs=needing(24))
    assert asked() == [False, False], f"{whole.name} would not fit beside the high one"


def test_a_deaf_worker_is_passed_and_tried_again_at_growing_distance(queue: Queue) -> None:
    queue.register("deaf", memory_bytes=1)
    queue.register("good", memory_bytes=2)
    job = queue.accept()

    def worker_of_the_bell() -> list[str]:
        return [bell.worker for bell in queue.dispatch()]

    def unanswered() -> None:
        queue.lapse(job.id)
        with queue.sessions.begin() as session:
            assert reap.reap(session, max_lost=5, rest_s=30) == [job.id]

    def pass_time(seconds: float) -> None:
        with queue.sessions.begin() as session:
            session.execute(
                text("update workers set rests_until = rests_until - make_interval(secs => :s)"), {"s": seconds}
            )

    assert worker_of_the_bell() == ["deaf"]
    unanswered()
    assert worker_of_the_bell() == ["good"], "at the second try"
    queue.claimed(job.id)
    job = queue.accept()
    assert worker_of_the_bell() == [], "it rests"
    for rest_s in (30, 60, 120):
        pass_time(rest_s - 2)
        assert worker_of_the_bell() == []
        pass_time(3)
        assert worker_of_the_bell() == ["deaf"], "it is the only one, and tried again"
        unanswered()
    pass_time(241)
    queue.register("another", memory_bytes=4)
    assert worker_of_the_bell() == ["another"], "others are preferred"
    queue.claimed(job.id)
    queue.accept()
    (bell,) = queue.dispatch()
    assert queue.claim(bell.job_id, bell.fence - 1, "deaf") is None, "a stale bell"
    with queue.sessions.begin() as session:
        assert session.get_one(Worker, queue.worker_ids["deaf"]).unanswered == 0, "it hears"
        session.execute(update(Job).values(state="failed", finished_at=text("now()"), lease_expires_at=None))
    queue.accept()
    assert worker_of_the_bell() == ["deaf"], "and is the smallest again"


def test_bells_that_were_never_rung_are_nobodys_silence(queue: Queue) -> None:
    queue.register("w")
    job = queue.accept()
    for _ in range(3):
        (bell,) = queue.dispatch()
        with queue.sessions.begin() as session:
            workers.not_rung(session, [bell.worker])
        queue.lapse(job.id)
        with queue.sessions.begin() as session:
            reap.reap(session, max_lost=5)
    assert len(queue.dispatch()) == 1

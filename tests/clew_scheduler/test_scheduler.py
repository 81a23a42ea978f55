"""The scheduler's turn, and what it clears away."""

import time
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import pytest
from celery import Celery
from prometheus_client import REGISTRY
from pydantic import ValidationError
from sqlalchemy import text
from tests.support.fleet import TENTH
from tests.support.jobs import OOPS, Queue, dataset_result, queue
from tests.support.servers import Lab
from tests.support.waiting import until

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.publish import Uploaded
from clew_lab.catalogue.series import metric_series
from clew_lab.catalogue.tables import Artifact, Attempt
from clew_lab.jobs import finalise, report, retry
from clew_lab.jobs.broker import make_app, queue_of
from clew_lab.storage import Store, object_key
from clew_scheduler import monitoring
from clew_scheduler.helper import Helper
from clew_scheduler.loop import Scheduler
from clew_scheduler.retention import sweep
from clew_scheduler.standing import standing_helper
from clew_spec.errors import Unavailable
from clew_spec.jobs import JobState

__all__ = ["queue"]


@pytest.fixture
def app(lab: Lab) -> Celery:
    return make_app(lab.settings.redis_url.get_secret_value())


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_bell_carries_the_job_and_its_fence_and_nothing_else(queue: Queue, lab: Lab, app: Celery) -> None:
    queue.register()
    job = queue.accept()
    dispatched = counted("clew_jobs_dispatched_total", pool="train")
    (bell,) = Scheduler(lab.settings, queue.sessions, app).turn()
    assert counted("clew_jobs_dispatched_total", pool="train") == dispatched + 1
    assert (bell.job_id, bell.fence, bell.worker) == (job.id, 1, "w")
    with app.connection_for_read() as connection, connection.SimpleQueue(queue_of("w")) as messages:
        message = messages.get(timeout=10)
        args, kwargs, _ = message.payload
        assert (args, kwargs) == ([str(job.id), 1], {})
        assert message.headers["expires"] is None, "clocks differ"
        assert message.content_type == "application/json"
        message.ack()


def test_no_redis_is_no_obstacle_to_the_turn(queue: Queue, lab: Lab) -> None:
    """What was dispatched and could not be rung goes back, and is dispatched anew."""
    queue.register()
    job = queue.accept()
    scheduler = Scheduler(lab.settings, queue.sessions, make_app("redis://127.0.0.1:9/0"))
    not_rung = counted("clew_bells_not_rung_total")
    (bell,) = scheduler.turn()
    assert counted("clew_bells_not_rung_total") == not_rung + 1
    assert queue.job(job.id).state == JobState.DISPATCHED
    assert scheduler.turn() == []
    queue.lapse(job.id)
    lapsed = counted("clew_leases_lapsed_total")
    (again,) = scheduler.turn()
    assert counted("clew_leases_lapsed_total") == lapsed + 1
    assert (again.job_id, again.fence) == (job.id, bell.fence + 1)
    assert queue.job(job.id).lost_count == 0, "an unanswered bell is not a lost worker"


def test_a_scheduler_outlives_postgres(
    make_lab: object, queue: Queue, lab: Lab, app: Celery, database_url: str
) -> None:

    settings = lab.settings.model_copy(update={"poll_s": 0.1})
    engine = make_engine(database_url, connect_s=1)
    scheduler = Scheduler(settings, session_factory(engine), app)
    thread = Thread(target=scheduler.run)
    thread.start()
    try:
        queue.register()
        for _ in range(3):
            with queue.sessions() as session:  # as a restart of the server does
                session.execute(
                    text(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where datname = current_database() and pid <> pg_backend_pid()"
                    )
                )
        job = queue.accept()
        give_up_at = time.monotonic() + 60
        while queue.job(job.id).state != JobState.DISPATCHED:
            assert time.monotonic() < give_up_at
            assert thread.is_alive()
            time.sleep(0.05)
    finally:
        scheduler.stop()
        thread.join(30)
        engine.dispose()
    assert not thread.is_alive()


def test_a_helper_goes_on_whatever_is_raised() -> None:
    stop, turns = Event(), list[BaseException | None]()
    raised = [KeyError("a project"), Unavailable("the store"), ValueError("a spec"), None]

    def turn() -> float:
        turns.append(error := raised[len(turns)])
        if error is not None:
            raise error
        stop.set()
        return 0.0

    before = counted("clew_scheduler_failed_turns_total", loop="test")
    Helper("test", turn, backoff_s=0.01).start(stop)
    until(stop.is_set, "it turns again")
    assert turns == raised
    assert counted("clew_scheduler_failed_turns_total", loop="test") == before + 3
    until(lambda: counted("clew_scheduler_last_turn_timestamp_seconds", loop="test") > time.time() - 30, "it is seen")


def test_a_scheduler_turns_on_after_an_error_that_nobody_foresaw(
    queue: Queue, lab: Lab, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of the metrics that it counts, which are ours."""
    scheduler = Scheduler(lab.settings.model_copy(update={"poll_s": 0.05}), queue.sessions, app)
    failed = counted("clew_scheduler_failed_turns_total", loop="dispatch")
    monkeypatch.setattr(monitoring, "TURN_S", None)
    thread = Thread(target=scheduler.run)
    thread.start()
    try:
        until(lambda: counted("clew_scheduler_failed_turns_total", loop="dispatch") > failed, "a turn fails")
        monkeypatch.undo()
        queue.register()
        job = queue.accept()
        until(lambda: queue.job(job.id).state == JobState.DISPATCHED, "it turns again")
    finally:
        scheduler.stop()
        thread.join(30)


def test_where_jobs_stand_is_never_older_than_five_seconds(queue: Queue, lab: Lab) -> None:
    """At the longest pause that may be set."""
    with pytest.raises(ValidationError, match="standing_s"):
        type(lab.settings)(standing_s=4.5)
    queue.accept()
    stop = Event()
    standing_helper(queue.sessions, alive_s=30, every_s=4).start(stop)

    def age() -> float | None:
        with queue.sessions() as session:
            found: float | None = session.scalar(text("select extract(epoch from now() - max(at))::float from queues"))
            return found

    try:
        until(lambda: age() is not None, "somebody looks")
        ages, ends = list[float](), time.monotonic() + 9
        while time.monotonic() < ends:
            ages.append(age() or 0.0)
            time.sleep(0.1)
    finally:
        stop.set()
    assert max(ages) <= 5
    assert sum(later < earlier for earlier, later in pairwise(ages)) >= 2, "it looked again, and again"


def test_only_what_was_published_outlives_the_job(queue: Queue, lab: Lab, tmp_path: Path) -> None:
    store = Store.of(lab.settings)
    content = tmp_path / "content"
    content.write_bytes(b"tokens")
    digest = sha256(b"tokens").hexdigest()

    def put(job_id: object, fence: int, name: str) -> str:
        return store.put(object_key(queue.actor.project_id, job_id, fence, name), content, digest).key  # type: ignore[arg-type]

    job = queue.running()
    worker = next(iter(queue.worker_ids))
    put(job.id, 1, "dataset/tokens.bin")
    put(job.id, 1, "checkpoints/5/state")
    with queue.sessions.begin() as session:
        finalise.lost(session, job.id, 1, OOPS, max_lost=5)
    assert sweep(queue.sessions, store, after_s=0) == 0, "a job that may go on keeps its checkpoints"
    (bell,) = queue.dispatch()
    queue.claim(job.id, bell.fence, worker)
    published = put(job.id, 2, "dataset/tokens.bin")
    put(job.id, 2, "checkpoints/9/state")
    with queue.sessions.begin() as session:
        file = Uploaded("dataset/tokens.bin", published, digest, 6, "text/plain")
        finalise.succeed(session, job.id, 2, dataset_result(), [file])
    failed = queue.running()
    put(failed.id, failed.fence, "dataset/tokens.bin")
    with queue.sessions.begin() as session:
        finalise.fail(session, failed.id, failed.fence, OOPS, retryable=False)

    assert sweep(queue.sessions, store, after_s=3600) == 0, "too early"
    assert sweep(queue.sessions, store, after_s=0) == 3
    assert list(store.keys("projects/")) == [published]
    assert sweep(queue.sessions, store, after_s=0) == 0
    with queue.sessions() as session:
        assert [artifact.key for artifact in session.query(Artifact)] == [published]
        assert all(attempt.collected for attempt in session.query(Attempt))


def test_a_checkpoint_is_kept_for_a_retry_and_while_the_retry_goes_on_from_it(
    queue: Queue, lab: Lab, tmp_path: Path
) -> None:
    store = Store.of(lab.settings)
    content = tmp_path / "content"
    content.write_bytes(b"state")
    digest = sha256(b"state").hexdigest()
    job = queue.running()
    key = store.put(object_key(queue.actor.project_id, job.id, 1, "checkpoints/5/state"), content, digest).key
    file = {"name": "state", "key": key, "sha256": digest, "size": 5}
    points = [(step, {"fvu": 1 / step}) for step in range(1, 9)]
    with queue.sessions.begin() as session:
        report.register_checkpoint(session, job.id, 1, 5, [file])
        report.report(session, job.id, 1, [], number=1, metrics=points)
        finalise.fail(session, job.id, 1, OOPS, retryable=False)
    week = {"after_s": 0, "checkpoints_after_s": 7 * 86400}
    assert sweep(queue.sessions, store, **week) == 0, "it may be tried again"
    with queue.sessions.begin() as session:
        again, _ = retry.retry(session, queue.actor, job.id, kept_s=7 * 86400)
        assert again.checkpoint == {"step": 5, "fence": 1, "files": [file], "job_id": str(job.id)}
        curves = metric_series(session, queue.actor, again.id, names=(), max_points=100)
        assert curves[0].steps == [1, 2, 3, 4, 5], "what was measured after the checkpoint is measured anew"
    assert sweep(queue.sessions, store, after_s=0) == 0, "the retry goes on from it, however long it waits"
    queue.register("other")
    (bell,) = queue.dispatch()
    queue.claim(bell.job_id, bell.fence, "other")
    own = {**file, "key": "own"}
    with queue.sessions.begin() as session:
        assert report.register_checkpoint(session, again.id, bell.fence, 9, [own]) == [], "those are not its own"
        assert report.register_checkpoint(session, again.id, bell.fence, 12, [file]) == ["own"]
    assert sweep(queue.sessions, store, after_s=0) == 1, "nobody goes on from it"
    assert list(store.keys("projects/")) == []
    with queue.sessions.begin() as session:
        finalise.fail(session, again.id, bell.fence, OOPS, retryable=False)
    with queue.sessions.begin() as session:
        third, _ = retry.retry(session, queue.actor, job.id, kept_s=7 * 86400)
        assert third.checkpoint is None, "its files are gone"


def test_the_times_of_the_tests_are_a_tenth_of_the_real_ones(lab: Lab) -> None:
    for name in ("dispatch_lease_s", "running_lease_s", "beat_s", "fence_after_s", "kill_grace_s", "poll_s"):
        assert getattr(lab.settings, name) == pytest.approx(10 * float(str(TENTH[name])))

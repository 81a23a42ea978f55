"""A real worker and scheduler, and a runner that does as it is told."""

import json

from sqlalchemy import text
from tests.support.fleet import Fleet
from tests.support.proxy import through_proxy

from clew_lab.catalogue.tables import Artifact, Attempt, Dataset, Event, Metric, Worker
from clew_lab.jobs import retry, workers
from clew_spec.jobs import JobState
from clew_worker.supervisor.exits import DRAINED, NAME_TAKEN

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

ENDINGS: list[tuple[str, list[str], dict[str, int], JobState, list[str], str]] = [
    ("done", ["steps_5", "every_2"], {}, S, ["succeeded"], ""),
    ("failed", ["fail_at_2"], {"max_retries": 3}, F, ["failed"], "as told"),
    ("failed twice", ["fail_at_2", "retryable"], {"max_retries": 1}, F, ["failed", "failed"], "as told"),
    ("lost its runner", ["steps_9", "every_4", "crash_once_at_7"], {}, S, ["lost", "succeeded"], ""),
    ("kept losing it", ["crash_at_1"], {}, F, ["lost"] * 3, "SIGKILL"),
    ("store away", ["unavailable_at_1"], {}, F, ["lost"] * 3, "the store is away"),
    ("unstorable", ["huge"], {"max_retries": 3}, F, ["failed"], "could not be recorded: bigint out of range"),
    ("nul", ["nul"], {}, S, ["succeeded"], ""),
    ("spoke nonsense", ["nonsense_at_2"], {}, F, ["failed"], "event 2 is not one"),
    ("wrong digest", ["corrupt"], {}, F, ["failed"], "not what was announced"),
    ("file missing", ["undeclared"], {}, F, ["failed"], "dataset/more"),
]
"""What it is, the runner's words, the request, and the state, attempts and error that are due."""


def test_every_way_an_attempt_ends(fleet: Fleet) -> None:
    fleet.lab.environ["CLEW_MAX_LOST"] = "2"
    worker = fleet.worker(module="clew_worker")
    fleet.scheduler()
    jobs = {what: fleet.submit(*words, **fields) for what, words, fields, *_ in ENDINGS}
    for what, _, _, state, outcomes, error in ENDINGS:
        job = fleet.settle(jobs[what])
        assert job.state == state, (what, job.error, fleet.logs())
        attempts = sorted(fleet.rows(Attempt, Attempt.job_id == job.id), key=lambda attempt: attempt.fence)
        assert [attempt.outcome for attempt in attempts] == outcomes, what
        assert error in json.dumps(job.error), what
        assert job.failure_count == outcomes.count("failed"), what
        assert job.lost_count == outcomes.count("lost"), what
        assert (job.progress or {}).get("phase", "step") == "step"

    assert fleet.steps(jobs["done"]) == [(step, 1) for step in range(1, 6)]
    resumed = fleet.steps(jobs["lost its runner"])
    assert resumed == [*((step, 1) for step in range(1, 5)), *((step, 2) for step in range(5, 10))]
    which = fleet.order_of_attempts(jobs["lost its runner"])
    shown = fleet.rows(Metric, Metric.job_id == jobs["lost its runner"], ~Metric.hidden)
    assert sorted((point.step, which[point.fence]) for point in shown) == resumed
    said = fleet.rows(Event, Event.job_id == jobs["lost its runner"], Event.type == "log")
    assert any("out of luck" in event.data["message"] for event in said)

    (dataset,) = fleet.rows(Dataset, Dataset.job_id == jobs["nul"])
    assert dataset.source["tokens"] == ["a\ufffd", "\\u0000"]
    assert {point.name for point in fleet.rows(Metric, Metric.job_id == jobs["nul"])} == {"loss\ufffd"}

    _the_runner_saw_no_secrets(fleet, fleet.job(jobs["done"]).result)
    published = {artifact.key for artifact in fleet.rows(Artifact)}
    assert published <= set(fleet.store.keys("projects/"))
    folder = fleet.lab.settings.data_dir / "workers" / "w1"
    assert list((folder / "scratch").iterdir()) == []

    worker.terminate()
    assert worker.wait(20) == 0
    (row,) = fleet.rows(Worker)
    assert row.draining


def _the_runner_saw_no_secrets(fleet: Fleet, result: dict[str, dict[str, list[str]]] | None) -> None:
    assert result is not None
    environ = result["source"]["environ"]
    assert "PATH" in environ
    assert not [name for name in environ if name.startswith("CLEW_")]


def test_a_runner_cannot_read_the_secrets_of_its_parents(fleet: Fleet) -> None:
    fleet.start("tests.support.powerless", "clew_worker", "--pool", "train", "--name", "w")
    fleet.scheduler()
    job = fleet.settle(fleet.submit("peek"))
    assert job.state == S, job.error
    assert job.result is not None
    assert [word for word in job.result["source"]["others"] if word.startswith("CLEW_")] == []


def test_an_internal_error_of_postgres_is_tried_again(fleet: Fleet) -> None:
    with fleet.sessions.begin() as session:
        for statement in (
            "create sequence hiccups",
            """create function hiccup() returns trigger language plpgsql security definer as $$ begin
                 if nextval('hiccups') <= 2 then raise 'hiccup' using errcode = 'XX000'; end if; return new; end $$""",
            "create trigger hiccup before insert on artifacts for each row execute function hiccup()",
        ):
            session.execute(text(statement))
    fleet.worker()
    fleet.scheduler()
    job = fleet.settle(fleet.submit())
    assert (job.state, job.lost_count, job.failure_count) == (S, 0, 0)


def test_a_warm_runner_serves_many_circuit_jobs_and_one_project(fleet: Fleet) -> None:
    worker = fleet.worker(pool="circuits")
    fleet.scheduler()
    first = [fleet.submit_circuit("steps_2"), fleet.submit_circuit("steps_2")]
    pids = {fleet.store.read(_artifact(fleet, job_id).key).split()[2] for job_id in first}
    assert len(pids) == 1
    failing = fleet.submit_circuit("fail_at_1")
    assert fleet.settle(failing).state == F
    after = fleet.submit_circuit("steps_2")
    assert fleet.store.read(_artifact(fleet, after).key).split()[2] not in pids
    worker.terminate()
    assert worker.wait(20) == 0


def _artifact(fleet: Fleet, job_id: object) -> Artifact:
    assert fleet.settle(job_id).state == S  # type: ignore[arg-type]
    (artifact,) = fleet.rows(Artifact, Artifact.job_id == job_id)
    return artifact


def test_cancelling(fleet: Fleet) -> None:
    """Waiting, running, and running deaf; then the worker is free for the next."""
    fleet.scheduler()
    waiting = fleet.submit()
    fleet.cancel(waiting)
    assert fleet.settle(waiting).state == C
    assert fleet.rows(Attempt, Attempt.job_id == waiting) == []
    fleet.worker()
    running = fleet.submit("steps_100000", "ms_10")
    deaf = fleet.submit("hang_at_2")
    behind = fleet.submit()
    fleet.wait_for_step(running, 3)
    fleet.cancel(running)
    fleet.cancel(running)
    assert fleet.settle(running).state == C
    fleet.wait(lambda: fleet.rows(Event, Event.job_id == deaf, Event.type == "log"))
    fleet.cancel(deaf)
    assert fleet.settle(deaf).state == C
    assert fleet.settle(behind).state == S


def test_a_cancel_reaches_a_silent_runner_long_before_the_next_beat(fleet: Fleet) -> None:
    fleet.lab.environ.update(CLEW_BEAT_S="200", CLEW_FENCE_AFTER_S="300", CLEW_RUNNING_LEASE_S="400")
    fleet.scheduler()
    fleet.worker()
    job_id = fleet.submit("hang_at_2")
    fleet.wait(lambda: fleet.rows(Event, Event.job_id == job_id, Event.type == "log"))
    fleet.cancel(job_id)
    assert fleet.settle(job_id, seconds=30).state == C


def test_who_waits_for_the_store_notices_that_the_job_is_another_s(fleet: Fleet) -> None:
    with through_proxy(f"http://{fleet.lab.environ['CLEW_S3_ENDPOINT']}") as (proxy, url):
        fleet.scheduler()
        fleet.worker(CLEW_S3_ENDPOINT=url.removeprefix("http://"))
        proxy.cut()
        job_id = fleet.submit()
        fleet.wait(lambda: "upload_put_off" in fleet.logs())
        lapse = text(
            "update jobs set lease_expires_at = now() - interval '1 minute'"
            " where id = :id and fence = 1 and state = 'running'"
        )

        def taken_again() -> bool:
            with fleet.sessions.begin() as session:
                session.execute(lapse, {"id": job_id})
            return fleet.job(job_id).fence > 1 and fleet.job(job_id).state == JobState.RUNNING

        fleet.wait(taken_again, seconds=30)
        proxy.mend()
        assert fleet.settle(job_id).lost_count == 1


def test_a_drained_worker_gives_its_job_to_another(fleet: Fleet) -> None:
    fleet.scheduler()
    fleet.worker("w1")
    fleet.worker("w2")
    job_id = fleet.submit("steps_80", "ms_50")
    fleet.wait_for_step(job_id, 5)
    first = fleet.holder(job_id)
    first.terminate()
    assert first.wait(20) == 0
    job = fleet.settle(job_id)
    assert job.state == S
    assert (job.preempt_count, job.lost_count, job.failure_count) == (1, 0, 0)
    assert {attempt for _, attempt in fleet.steps(job_id)} == {1, 2}, "it went on from the checkpoint it was asked for"


def test_of_two_workers_with_one_name_one_works(fleet: Fleet) -> None:
    """On one machine the second refuses; from another machine it takes over, and the first lets go, without a duel."""
    fleet.scheduler()
    first = fleet.worker("w", module="clew_worker")
    job_id = fleet.submit("steps_100000", "ms_50", "every_5")
    fleet.wait_for_checkpoint(job_id, 5)
    words = ("--pool", "train", "--name", "w")
    second = fleet.start("clew_worker", *words)
    assert second.wait(30) == NAME_TAKEN
    assert "--name" in fleet.logs()
    assert fleet.job(job_id).state == JobState.RUNNING
    elsewhere = fleet.lab.settings.data_dir / "elsewhere"
    third = fleet.start("clew_worker", *words, CLEW_DATA_DIR=str(elsewhere))
    assert first.wait(30) == NAME_TAKEN
    fleet.wait(lambda: fleet.job(job_id).preempt_count == 1)
    fleet.wait_for_state(job_id, JobState.RUNNING)
    fleet.cancel(job_id)
    assert fleet.settle(job_id).lost_count == 0
    (row,) = fleet.rows(Worker)
    assert not row.draining, "who let go did not speak for who took over"
    with fleet.sessions.begin() as session:
        workers.drain(session, row.id)
    assert third.wait(30) == DRAINED, "and its watch does not start it again"
    fleet.worker("w")
    fleet.wait(lambda: not fleet.rows(Worker)[0].draining)
    assert fleet.settle(fleet.submit()).state == S


def test_a_job_that_is_tried_again_goes_on_from_its_checkpoint(fleet: Fleet) -> None:
    fleet.scheduler()
    fleet.worker()
    first = fleet.submit("steps_300", "every_4", "ms_50")
    fleet.wait_for_checkpoint(first, 4)
    fleet.cancel(first)
    assert fleet.settle(first).state == C
    with fleet.sessions.begin() as session:
        again = retry.retry(session, fleet.actor, first, kept_s=3600)[0].id
    job = fleet.settle(again)
    assert (job.state, job.retry_of) == (S, first)
    (artifact,) = fleet.rows(Artifact, Artifact.job_id == again)
    made_by = [line.split()[2] for line in fleet.store.read(artifact.key).decode().splitlines()]
    assert len(made_by) == 300
    assert len(set(made_by)) == 2, "the steps up to the checkpoint were not done again"

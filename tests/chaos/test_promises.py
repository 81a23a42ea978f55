"""An accepted job ends once, with at most one visible result, whoever is killed, frozen or emptied meanwhile."""

import os
import signal
import time

import psutil
import pytest
import redis
from sqlalchemy import text
from tests.support.fleet import Fleet

from clew_lab.catalogue.tables import Attempt, Event, Metric
from clew_lab.jobs.moves import Fenced
from clew_lab.jobs.report import register_checkpoint
from clew_spec.jobs import JobState

pytestmark = pytest.mark.chaos

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


def outcomes(fleet: Fleet, job_id: object) -> list[str | None]:
    attempts = fleet.rows(Attempt, Attempt.job_id == job_id)
    return [attempt.outcome for attempt in sorted(attempts, key=lambda attempt: attempt.fence)]


def test_a_killed_runner_goes_on_from_its_checkpoint(fleet: Fleet) -> None:
    fleet.scheduler()
    worker = fleet.worker()
    job_id = fleet.submit("steps_40", "ms_50", "every_5")
    fleet.wait_for_checkpoint(job_id, 5)
    os.kill(fleet.runner_pid(worker), signal.SIGKILL)
    job = fleet.settle(job_id)
    assert (job.state, outcomes(fleet, job_id)) == (S, ["lost", "succeeded"])
    assert (job.lost_count, job.failure_count) == (1, 0)
    assert {attempt for _, attempt in fleet.steps(job_id)} == {1, 2}
    assert worker.is_running(), "the supervisor outlives its runner"


def test_a_killed_supervisor_takes_its_runner_along_and_another_goes_on(fleet: Fleet) -> None:
    fleet.scheduler()
    fleet.worker("w1")
    fleet.worker("w2")
    job_id = fleet.submit("steps_60", "ms_50", "every_5")
    fleet.wait_for_checkpoint(job_id, 5)
    first = fleet.holder(job_id)
    runner = psutil.Process(fleet.runner_pid(first))
    first.kill()
    first.wait(10)
    fleet.wait(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE)
    job = fleet.settle(job_id)
    assert (job.state, outcomes(fleet, job_id)) == (S, ["lost", "succeeded"])
    assert {attempt for _, attempt in fleet.steps(job_id)} == {1, 2}


def test_a_worker_that_falls_over_is_started_again(fleet: Fleet) -> None:
    fleet.scheduler()
    watch = fleet.worker(module="clew_worker")
    job_id = fleet.submit("steps_40", "ms_50", "every_5")
    fleet.wait_for_checkpoint(job_id, 5)
    fleet.runner_pid(watch)
    (supervisor,) = watch.children()
    supervisor.kill()
    assert fleet.settle(job_id).state == S
    watch.terminate()
    assert watch.wait(20) == 0


def test_a_frozen_worker_is_fenced_out_when_it_wakes(fleet: Fleet) -> None:
    """Its runner went on all the while, and came to an end of its own: nothing of that is ever seen."""
    fleet.scheduler()
    zombie = fleet.worker("w1")
    job_id = fleet.submit("steps_60", "ms_50", "every_5")
    fleet.wait_for_checkpoint(job_id, 5)
    runner = psutil.Process(fleet.runner_pid(zombie))
    fence = fleet.job(job_id).fence
    zombie.suspend()
    fleet.worker("w2")
    fleet.wait(lambda: fleet.job(job_id).fence > fence and fleet.job(job_id).state == JobState.RUNNING)
    told = len(fleet.rows(Metric, Metric.job_id == job_id, Metric.fence == fence))
    zombie.resume()
    fleet.wait(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE)
    job = fleet.settle(job_id)
    assert (job.state, outcomes(fleet, job_id)) == (S, ["lost", "succeeded"])
    assert len(fleet.rows(Metric, Metric.job_id == job_id, Metric.fence == fence)) == told
    assert {attempt for _, attempt in fleet.steps(job_id)} == {1, 2}
    with pytest.raises(Fenced), fleet.sessions.begin() as session:
        register_checkpoint(session, job_id, fence, 99, [])
    after = fleet.submit()
    assert fleet.settle(after).state == S


def test_redis_is_emptied_while_jobs_wait_and_run(fleet: Fleet) -> None:
    fleet.scheduler()
    worker = fleet.worker()
    running = fleet.submit("steps_40", "ms_50", "every_5")
    fleet.wait_for_step(running, 2)
    waiting = [fleet.submit() for _ in range(3)]
    with redis.Redis.from_url(fleet.lab.settings.redis_url.get_secret_value()) as client:
        client.flushall()
    assert fleet.settle(running).state == S
    assert outcomes(fleet, running) == ["succeeded"], "the running job was not disturbed"
    worker.suspend()  # so that a bell lies in Redis when it is emptied again
    rung = fleet.submit()
    fleet.wait_for_state(rung, JobState.DISPATCHED, JobState.QUEUED)
    with redis.Redis.from_url(fleet.lab.settings.redis_url.get_secret_value()) as client:
        client.flushall()
    worker.resume()
    for job_id in [*waiting, rung]:
        assert fleet.settle(job_id).state == S


def test_a_bell_that_was_lost_is_rung_again_and_a_doubled_one_runs_once(fleet: Fleet) -> None:
    fleet.worker()
    job_id = fleet.submit("steps_20", "ms_20")
    with fleet.sessions.begin() as session:  # a scheduler that died between commit and bell
        session.execute(
            text(
                "update jobs set state = 'dispatched', fence = 1, lease_expires_at = now() + interval '1 second' "
                "where id = :id"
            ),
            {"id": job_id},
        )
        session.execute(
            text(
                "insert into events (project_id, job_id, seq, fence, type, data) select project_id, id, 2, 1, 'state', "
                """'{"state": "dispatched", "from": "queued"}' from jobs where id = :id"""
            ),
            {"id": job_id},
        )
        session.execute(text("update jobs set last_seq = 2 where id = :id"), {"id": job_id})
    fleet.scheduler()
    fleet.scheduler()
    job = fleet.wait_for_state(job_id, JobState.RUNNING)
    assert job.fence > 1
    for fence in range(job.fence + 2):
        fleet.ring(job_id, fence)
        fleet.ring(job_id, job.fence)
    assert fleet.settle(job_id).state == S
    assert outcomes(fleet, job_id) == ["succeeded"]
    unanswered = fleet.rows(Event, Event.job_id == job_id, Event.type == "state")
    assert any(event.data.get("reason") == "unanswered" for event in unanswered)
    behind = fleet.submit()
    assert fleet.settle(behind).state == S, "the worker has done with the doubled bells"


def test_killed_schedulers_leave_nothing_behind(fleet: Fleet) -> None:
    fleet.worker()
    jobs = [fleet.submit() for _ in range(4)]
    for _ in range(3):
        scheduler = fleet.scheduler()
        time.sleep(0.7)  # anywhere in its turn
        scheduler.kill()
    last = fleet.scheduler()
    for job_id in jobs:
        assert fleet.settle(job_id).state == S
    last.terminate()
    assert last.wait(10) == 0

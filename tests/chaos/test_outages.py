"""Postgres, Redis and the object store go away and come back, for one worker or for all."""

import time

import psutil
import pytest
from tests.support.fleet import TENTH, Fleet
from tests.support.proxy import through_proxy

from clew_lab.catalogue.tables import Attempt
from clew_spec.jobs import JobState

pytestmark = pytest.mark.chaos

S = JobState.SUCCEEDED
FENCE_AFTER_S, KILL_GRACE_S = float(str(TENTH["fence_after_s"])), float(str(TENTH["kill_grace_s"]))
LEASE_S = float(str(TENTH["running_lease_s"]))


def outcomes(fleet: Fleet, job_id: object) -> list[str | None]:
    attempts = fleet.rows(Attempt, Attempt.job_id == job_id)
    return [attempt.outcome for attempt in sorted(attempts, key=lambda attempt: attempt.fence)]


def test_a_short_outage_of_postgres_does_not_touch_the_runner(fleet: Fleet) -> None:
    with through_proxy(fleet.lab.environ["CLEW_DATABASE_URL"]) as (proxy, url):
        fleet.scheduler()
        worker = fleet.worker(CLEW_DATABASE_URL=url)
        job_id = fleet.submit("steps_80", "ms_50", "every_5")
        fleet.wait_for_step(job_id, 3)
        pid = fleet.runner_pid(worker)
        proxy.cut()
        time.sleep(FENCE_AFTER_S / 3)  # the outage itself
        proxy.mend()
        assert psutil.pid_exists(pid)
        assert fleet.settle(job_id).state == S
        assert outcomes(fleet, job_id) == ["succeeded"]


def test_a_holder_that_hears_nothing_is_dead_before_its_lease_is(fleet: Fleet) -> None:
    with through_proxy(fleet.lab.environ["CLEW_DATABASE_URL"]) as (proxy, url):
        fleet.scheduler()
        deaf = fleet.worker("deaf", CLEW_DATABASE_URL=url)
        job_id = fleet.submit("steps_60", "hang_at_30", "ms_50", "every_5")  # nothing but KILL ends it
        fleet.wait_for_checkpoint(job_id, 5)
        runner = psutil.Process(fleet.runner_pid(deaf))
        proxy.hang()
        hung_at = time.monotonic()
        fleet.wait(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE)
        took = time.monotonic() - hung_at
        assert took < LEASE_S - 0.5, "another may claim the job soon"
        fleet.wait(lambda: fleet.job(job_id).lost_count == 1)
        fleet.cancel(job_id)
        proxy.mend()
        assert fleet.settle(job_id).state == JobState.CANCELLED
        after = fleet.submit()
        assert fleet.settle(after).state == S, "the worker came back by itself"


def test_redis_goes_away_and_comes_back(fleet: Fleet) -> None:
    with through_proxy(fleet.lab.environ["CLEW_REDIS_URL"]) as (proxy, url):
        fleet.start("clew_scheduler", CLEW_REDIS_URL=url)
        fleet.worker(module="clew_worker", CLEW_REDIS_URL=url)
        running = fleet.submit("steps_60", "ms_50")
        fleet.wait_for_step(running, 3)
        waiting = fleet.submit()
        proxy.cut()
        assert fleet.settle(running).state == S
        assert outcomes(fleet, running) == ["succeeded"]
        fleet.wait(lambda: fleet.job(waiting).fence >= 1)
        proxy.mend()
        assert fleet.settle(waiting).state == S


def test_the_object_store_goes_away_and_comes_back(fleet: Fleet) -> None:
    endpoint = fleet.lab.environ["CLEW_S3_ENDPOINT"]
    with through_proxy(f"http://{endpoint}") as (proxy, url):
        fleet.scheduler()
        fleet.worker(CLEW_S3_ENDPOINT=url.removeprefix("http://"))
        job_id = fleet.submit("steps_30", "ms_50")
        fleet.wait_for_step(job_id, 3)
        proxy.cut()
        fleet.wait_for_step(job_id, 30)
        time.sleep(1)  # the upload is being tried
        assert fleet.job(job_id).state == JobState.RUNNING
        proxy.mend()
        assert fleet.settle(job_id).state == S
        assert outcomes(fleet, job_id) == ["succeeded"]
        assert len(fleet.steps(job_id)) == 30

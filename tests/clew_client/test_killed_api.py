"""An API that is killed while a worker tells of its job: who watches hears everything once, in order and at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import quantiles

import httpx2
import psutil
import pytest
from tests.clew_api.seeds import World
from tests.support.fleet import Fleet, fleet

from clew_client import Lab, Retry
from clew_lab.catalogue.tables import Event, Metric, Project
from clew_spec.api import EventView
from clew_spec.jobs import JobState
from clew_spec.people import Role

__all__ = ["fleet"]

pytestmark = pytest.mark.lab

STEPS, STEP_MS, KILLS = 1800, 25, 3
LAG_S = 1.0
RETRY = Retry(first_s=0.05, longest_s=1.0)
"""An API that is started on a busy machine may take 20 s to answer; a watcher asks again at least every second."""


class Api:
    """The API as a process of its own, on a port that it keeps."""

    def __init__(self, fleet: Fleet) -> None:
        settings = fleet.lab.settings
        self._fleet = fleet
        self.url = f"http://{settings.api_host}:{settings.api_port}"
        self._process: psutil.Popen | None = None
        self.outages: list[tuple[float, float]] = []
        """From the kill until it answers again, by the clock."""

    def start(self) -> None:
        self._process = self._fleet.start("clew_api")
        self._fleet.wait(self._answers)

    def kill(self) -> None:
        assert self._process is not None
        began = time.time()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.start()
        self.outages.append((began, time.time()))

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/api/v1/health/live", timeout=2).is_success
        except httpx2.TransportError:
            return False


class Watcher(threading.Thread):
    """Follows a job by one stream, and notes when it hears what."""

    def __init__(self, url: str, key: str, job_id: object) -> None:
        super().__init__(daemon=True)
        self._where = url, key, str(job_id)
        self.heard: list[tuple[float, EventView]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        url, key, job_id = self._where
        try:
            with Lab(url, key, retry=RETRY) as lab:
                for event in lab.events(job_id):
                    self.heard.append((time.time(), event))
        except BaseException as failure:
            self.failure = failure

    @property
    def seqs(self) -> list[int]:
        return [event.seq for _, event in self.heard]


@pytest.fixture
def api(fleet: Fleet) -> Api:
    api = Api(fleet)
    api.start()
    return api


def test_every_event_is_heard_once_in_order_and_within_a_second(fleet: Fleet, api: Api, tmp_path: Path) -> None:
    fleet.scheduler()
    fleet.worker()
    world = World(fleet.sessions, fleet.lab.settings, tmp_path)
    (project,) = fleet.rows(Project, Project.id == fleet.actor.project_id)
    key = world.member(project, "ada", Role.MEMBER).key
    job_id = fleet.submit(f"steps_{STEPS}", f"ms_{STEP_MS}")
    watchers = [Watcher(api.url, key, job_id) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for kill in range(1, KILLS + 1):
        fleet.wait_for_step(job_id, kill * STEPS // (3 * KILLS))
        fleet.wait(lambda: all(watcher.heard or watcher.failure for watcher in watchers))
        assert [watcher.failure for watcher in watchers] == [None, None]
        assert fleet.job(job_id).state == JobState.RUNNING
        api.kill()
    job = fleet.settle(job_id)
    assert job.state == JobState.SUCCEEDED
    for watcher in watchers:
        watcher.join(60)
        assert not watcher.is_alive(), "the stream ends when the job has"
        assert watcher.failure is None
        assert watcher.seqs == list(range(1, job.last_seq + 1))
        assert [event.type for _, event in watcher.heard].count("metric") == STEPS
    stored = {(event.seq, event.type) for event in fleet.rows(Event, Event.job_id == job_id)}
    assert stored == {(event.seq, event.type) for _, event in watchers[0].heard}
    lags = [lag for watcher in watchers for lag in _lags(watcher, api.outages)]
    assert len(lags) > 20
    assert quantiles(lags, n=20)[-1] < LAG_S, f"p95 of {len(lags)} events"

    with Lab(api.url, key) as lab:  # all of it is kept
        again = list(lab.events(job_id))
        assert again == [event for _, event in watchers[0].heard]
        (series,) = lab.metrics(job_id, max_points=STEPS)
        assert series.steps == sorted(metric.step for metric in fleet.rows(Metric, Metric.job_id == job_id))
        assert len(series.steps) == STEPS
        progress = lab.job(job_id).view.progress
        assert progress is not None
        assert progress.done == STEPS


def _lags(watcher: Watcher, outages: list[tuple[float, float]]) -> Iterator[float]:
    """Seconds from the worker's word to the watcher's ear, of what was said while the watcher could be connected."""
    for at, event in watcher.heard:
        if event.type == "progress":
            said = datetime.fromisoformat(event.data["at"]).timestamp()
            if not any(down - LAG_S <= said <= up + RETRY.longest_s for down, up in outages):
                yield at - said

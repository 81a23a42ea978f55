"""A job on its way in, against FastAPI and Celery as their manuals put them together: `benchmarks.bare_celery`.

Both sides have the same Postgres and Redis, the same server, pool of connections and body. Ours checks what it is
asked for, says who asks, and keeps what it answers for.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from statistics import median
from uuid import uuid4

import httpx2
import redis
from celery import Celery
from sqlalchemy import text

from benchmarks.bare_celery import TABLE, TASK, began_key
from benchmarks.bench import ROOT, Bench
from benchmarks.queue_lab import QueueLab, queue_lab, wait_for
from benchmarks.rows import Row
from clew_lab.jobs.notify import JOBS, Listener
from clew_local.servers.ports import LOOPBACK, free_ports
from clew_spec.jobs import JobState

CONNECTIONS, ROUNDS, REQUESTS = 16, 7, 800
"""Requests of each side in each round."""
CLAIMS = 60
IDLE_S = 1.0
"""Between two jobs, so that everybody waits again."""
PATIENCE_S = 60.0
FLOOR_MS, TIMES = 40.0, 3.0
"""A claim may take the larger of the two: milliseconds, and times what bare Celery takes."""
PEER = "FastAPI and Celery, bare"
MODEL = "m"
BODY = {
    "spec": {
        "kind": "build-dataset",
        "name": "bench",
        "model": MODEL,
        "context": 8,
        "source": {"packages": ["steps_1"]},
    }
}
"""For `tests.support.fake_runner`, whose jobs take no time."""


def accept(bench: Bench) -> Row:
    """Jobs a second that are taken in over 16 connections."""
    rounds, requests = (1, 32) if bench.tiny else (bench.repetitions(ROUNDS), REQUESTS)
    with queue_lab() as lab, lab.api() as api, bare_api(lab) as port:
        lab.add_model(MODEL)
        ours = _Side(lab.settings.api_port, "/api/v1/jobs", {"Authorization": f"Bearer {lab.key}"})
        peer = _Side(port, "/jobs", {})
        bench.watch.expect(2 * (rounds + 1))
        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(-1, rounds):  # the first one warms up
            for side, rates in zip((ours, peer), found, strict=True):
                rate = side.rate(requests)
                bench.watch.stepped()
                if turn >= 0:
                    rates.append(rate)
        taken = len(api.get("jobs", params={"state": "queued", "limit": 100}).raise_for_status().json()["items"])
    assert taken == min(100, (rounds + 1) * requests)
    return Row.of("queue/accept", *found, op=">=", target=0.5, unit="jobs/s over 16 connections", peer_name=PEER)


class _Side:
    """Asks one server for jobs, over connections that stay open."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str]) -> None:
        self._port = port
        self._path = path
        self._headers = {"Content-Type": "application/json", **headers}
        self._body = json.dumps(BODY).encode()

    def rate(self, requests: int) -> float:
        """Answers a second."""
        each = requests // CONNECTIONS
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            began = time.perf_counter()
            list(pool.map(self._ask, [each] * CONNECTIONS))
            return each * CONNECTIONS / (time.perf_counter() - began)

    def _ask(self, requests: int) -> None:
        connection = HTTPConnection(LOOPBACK, self._port, timeout=PATIENCE_S)
        for _ in range(requests):
            connection.request("POST", self._path, self._body, self._headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 202:
                raise RuntimeError(f"{self._path} was answered {answer.status}: {content[:500]!r}")
        connection.close()


@contextmanager
def bare_api(lab: QueueLab) -> Iterator[int]:
    """The peer's API; yields its port."""
    lab.run(TABLE)
    port = free_ports(1)[0]
    with lab.process("benchmarks.bare_celery", str(port)):
        with httpx2.Client(base_url=f"http://{LOOPBACK}:{port}") as client:
            wait_for(client, "openapi.json")
        yield port


def claim(bench: Bench) -> Row:
    """Milliseconds from a job's 202 until a free worker has it, in a lab with nothing else to do."""
    claims = 2 if bench.tiny else bench.repetitions(CLAIMS)
    runner = f"{sys.executable} {ROOT / 'tests' / 'support' / 'fake_runner.py'}"
    with queue_lab() as lab, ExitStack() as stack:
        lab.add_model(MODEL)
        api = stack.enter_context(lab.api())
        stack.enter_context(lab.process("clew_scheduler"))
        worker = ("clew_worker.supervisor", "--pool", "train", "--name", "w")
        stack.enter_context(lab.process(*worker, CLEW_RUNNER_COMMAND=runner))
        celery = ("celery", "--app", "benchmarks.bare_celery", "worker", "--pool", "threads", "--concurrency", "1")
        stack.enter_context(lab.process(*celery))
        bench.watch.expect(2 * (claims + 1))
        ours, peer = list[float](), list[float]()
        for turn in range(-1, claims):
            for measure, found in ((_claimed, ours), (_began, peer)):
                seconds = measure(lab, api)
                bench.watch.stepped()
                if turn >= 0:
                    found.append(1e3 * seconds)
                time.sleep(0 if bench.tiny else IDLE_S)
    return Row.of(
        "queue/claim",
        ours,
        peer,
        op="<=",
        target=max(FLOOR_MS, TIMES * median(peer)),
        unit="ms, p50",
        compare="ours",
        peer_name="Celery, bare: from publish to start",
    )


def _claimed(lab: QueueLab, api: httpx2.Client) -> float:
    """Seconds from the answer until the claim is committed, as whoever listens to the job learns of it."""
    listener = Listener(lab.settings.database_url.get_secret_value(), JOBS)
    try:
        job_id = api.post("jobs", json=BODY).raise_for_status().json()["id"]
        accepted, claimed = time.perf_counter(), None
        while time.perf_counter() < accepted + PATIENCE_S:
            listener.wait(1)
            with lab.sessions() as session:
                state = JobState(session.scalar(text("select state from jobs where id = :id"), {"id": job_id}))
            if claimed is None and state not in (JobState.QUEUED, JobState.DISPATCHED):
                claimed = time.perf_counter() - accepted
            if state.terminal and claimed is not None:
                return claimed
    finally:
        listener.close()
    raise TimeoutError(f"job {job_id} had not ended after {PATIENCE_S:.0f} s")


def _began(lab: QueueLab, _: httpx2.Client) -> float:
    """Seconds from the call that publishes a task until the task begins."""
    id, url = str(uuid4()), lab.settings.redis_url.get_secret_value()
    with Celery(broker=url) as app, redis.Redis.from_url(url) as client:
        app.connection_for_write().ensure_connection()
        sent = time.time()
        app.send_task(TASK, (id,))
        answer = client.blpop([began_key(id)], timeout=PATIENCE_S)
    if answer is None:
        raise TimeoutError(f"the task had not begun after {PATIENCE_S:.0f} s")
    return float(answer[1]) - sent

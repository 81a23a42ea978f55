"""Schedulers and workers as real processes, with every time at a tenth, and the promise they are held to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psutil
import pytest
from sqlalchemy import select

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.roles import Role
from clew_lab.catalogue.tables import Artifact, Attempt, Dataset, Event, Job, Metric, Worker
from clew_lab.jobs import accept, cancel
from clew_lab.jobs.broker import make_app, ring
from clew_lab.jobs.dispatch import Bell
from clew_lab.storage import Store
from clew_spec.jobs import MOVES, JobRequest, JobState, Pool
from clew_worker.supervisor.process import die_with_parent
from tests.support.jobs import make_actor
from tests.support.servers import Lab, under_role

T = TypeVar("T")
ROLE_OF: dict[str, Role] = {"clew_api": "api", "clew_scheduler": "scheduler"}
"""By module; all others are workers."""
FAKE_RUNNER = Path(__file__).with_name("fake_runner.py")
TENTH = {
    "dispatch_lease_s": 3,
    "running_lease_s": 6,
    "beat_s": 1,
    "fence_after_s": 3,
    "kill_grace_s": 1,
    "checkpoint_grace_s": 6,
    "poll_s": 0.1,
    "runner_command": f"{sys.executable} {FAKE_RUNNER}",
}


def wait_for(what: Callable[[], T | None], *, seconds: float = 90, why: Callable[[], object] = lambda: "") -> T:
    """The first true answer. Fails the test where there is none in time."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {seconds:.0f} s in vain\n{why()}")


class Fleet:
    """The processes of one lab. `submit` words for the fake runner; `settle` waits for an end and checks it."""

    def __init__(self, lab: Lab, folder: Path, *, project: str = "main") -> None:
        self.lab = lab
        self._folder = folder
        self._engine = make_engine(lab.settings.database_url.get_secret_value())
        self.sessions = session_factory(self._engine)
        self.actor = make_actor(self.sessions, project)
        self.store = Store.of(lab.settings)
        self.app = make_app(lab.settings.redis_url.get_secret_value())
        self.processes: list[psutil.Popen] = []
        self._workers: dict[str, psutil.Popen] = {}

    def start(self, module: str, *words: str, **environ_more: str) -> psutil.Popen:
        log = self._folder / f"{len(self.processes)}-{module}.log"
        environ = {**os.environ, **self.lab.environ, **environ_more}
        environ["CLEW_DATABASE_URL"] = under_role(environ["CLEW_DATABASE_URL"], ROLE_OF.get(module, "worker"))
        with log.open("wb") as output:
            process = psutil.Popen(
                [sys.executable, "-m", module, *words],
                env=environ,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # a test run that is killed leaves nobody behind
            )
        self.processes.append(process)
        return process

    def scheduler(self) -> psutil.Popen:
        return self.start("clew_scheduler")

    def worker(
        self, name: str = "w1", pool: Pool = "train", module: str = "clew_worker.supervisor", **environ: str
    ) -> psutil.Popen:
        process = self.start(module, "--pool", pool, "--name", name, **environ)
        self._workers[name] = process
        self.wait(lambda: self.rows(Worker, Worker.name == name))
        return process

    def holder(self, job_id: UUID) -> psutil.Popen:
        """The worker that runs the job."""
        job = self.wait_for_state(job_id, JobState.RUNNING)
        (worker,) = self.rows(Worker, Worker.id == job.worker_id)
        return self._workers[worker.name]

    def submit(self, *words: str, **fields: Any) -> UUID:
        spec = {
            "kind": "build-dataset",
            "name": "fake",
            "model": "m",
            "source": {"packages": list(words) or ["steps_3"]},
        }
        return self.accept({"spec": spec, **fields})

    def submit_circuit(self, *words: str) -> UUID:
        """Each is a job of its own, also where one has succeeded at the same."""
        spec = {"kind": "attribute", "name": "fake", "coders": "c", "prompt": " ".join(words)}
        return self.accept({"spec": spec, "reuse": False})

    def accept(self, body: dict[str, Any]) -> UUID:
        request = JobRequest.model_validate(body)
        with self.sessions.begin() as session:
            return accept.accept(session, self.actor, accept.Asked(request, "fake"))[0].id

    def cancel(self, job_id: UUID) -> None:
        with self.sessions.begin() as session:
            cancel.cancel(session, self.actor, job_id)

    def ring(self, job_id: UUID, fence: int) -> None:
        """The bell of this job's worker, or of the first there is, where the job has none."""
        job = self.job(job_id)
        worker = self.rows(Worker, Worker.id == job.worker_id) or self.rows(Worker)
        ring(self.app, Bell(job_id, fence, worker[0].name, job.pool))

    def job(self, job_id: UUID) -> Job:
        with self.sessions() as session:
            return session.get_one(Job, job_id)

    def rows(self, table: type[T], *where: Any) -> list[T]:
        with self.sessions() as session:
            return list(session.scalars(select(table).where(*where)))

    def wait(self, what: Callable[[], T | None], *, seconds: float = 90) -> T:
        return wait_for(what, seconds=seconds, why=self.logs)

    def wait_for_state(self, job_id: UUID, *states: JobState, seconds: float = 90) -> Job:
        return self.wait(lambda: job if (job := self.job(job_id)).state in states else None, seconds=seconds)

    def wait_for_step(self, job_id: UUID, step: int, fence: int = 1) -> None:
        self.wait(lambda: self.rows(Metric, Metric.job_id == job_id, Metric.step >= step, Metric.fence >= fence))

    def wait_for_checkpoint(self, job_id: UUID, step: int = 1) -> None:
        self.wait(lambda: ((self.job(job_id).checkpoint or {}).get("step") or 0) >= step)

    def settle(self, job_id: UUID, *, seconds: float = 120) -> Job:
        """Wait for the job's end and hold it to the promise: ended once, with one visible result or none."""
        job = self.wait_for_state(job_id, *(state for state in JobState if state.terminal), seconds=seconds)
        events = sorted(self.rows(Event, Event.job_id == job_id), key=lambda event: event.seq)
        assert [event.seq for event in events] == list(range(1, job.last_seq + 1))
        moves = [event.data for event in events if event.type == "state" and event.data["state"] != event.data["from"]]
        assert [move["from"] for move in moves] == [None, *(move["state"] for move in moves[:-1])]
        assert all(JobState(move["state"]) in MOVES[JobState(move["from"])] for move in moves[1:])
        assert sum(JobState(move["state"]).terminal for move in moves) == 1
        attempts = self.rows(Attempt, Attempt.job_id == job_id)
        assert all(attempt.outcome is not None and attempt.ended_at is not None for attempt in attempts)
        artifacts = self.rows(Artifact, Artifact.job_id == job_id)
        records = self.rows(Dataset, Dataset.job_id == job_id)
        if job.state == JobState.SUCCEEDED:
            assert {artifact.fence for artifact in artifacts} == {job.fence}
            assert [attempt.fence for attempt in attempts if attempt.outcome == "succeeded"] == [job.fence]
            assert len(records) == (job.kind == "build-dataset")
        else:
            assert (artifacts, records, job.result) == ([], [], None)
        self._metrics_are_whole(job_id)
        return job

    def steps(self, job_id: UUID) -> list[tuple[int, int]]:
        """(step, which attempt did it, from 1), as the published artifact tells."""
        (artifact,) = self.rows(Artifact, Artifact.job_id == job_id)
        lines = self.store.read(artifact.key).decode().splitlines()
        which = self.order_of_attempts(job_id)
        steps = [(int(line.split()[0]), which[int(line.split()[1])]) for line in lines]
        assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
        return steps

    def order_of_attempts(self, job_id: UUID) -> dict[int, int]:
        """Fences count bells, unanswered ones too; this counts attempts."""
        fences = sorted(attempt.fence for attempt in self.rows(Attempt, Attempt.job_id == job_id))
        return {fence: order for order, fence in enumerate(fences, 1)}

    def runner_pid(self, supervisor: psutil.Popen) -> int:
        """The runner that the supervisor (or the watch over it) has started."""

        def find() -> int | None:
            for child in supervisor.children(recursive=True):
                try:
                    if any(str(FAKE_RUNNER) == word for word in child.cmdline()):
                        return int(child.pid)
                except psutil.Error:
                    continue
            return None

        return self.wait(find)

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()[-6000:]}" for log in sorted(self._folder.glob("*.log")))

    def stop(self) -> None:
        for process in self.processes:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                for child in process.children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()
        self._engine.dispose()

    def _metrics_are_whole(self, job_id: UUID) -> None:
        """Of every step at most one point is shown."""
        shown = [(m.name, m.step) for m in self.rows(Metric, Metric.job_id == job_id, ~Metric.hidden)]
        assert len(shown) == len(set(shown))


@pytest.fixture
def fleet(make_lab: Callable[..., Lab], tmp_path: Path) -> Iterator[Fleet]:
    folder = tmp_path / "logs"
    folder.mkdir()
    fleet = Fleet(make_lab(**TENTH), folder)
    yield fleet
    fleet.stop()

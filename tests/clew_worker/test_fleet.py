"""The workers of a machine: which there are, that they are started again, and that a drain loses no work."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from tests.support.fleet import Fleet, fleet
from tests.support.servers import under_role

from clew_api.app import create_app
from clew_lab.catalogue.keys import create_key
from clew_lab.catalogue.tables import Audit, Membership, Project, User, Worker
from clew_local.servers.ports import free_ports
from clew_spec.errors import ClewError, InvalidSpec, Unavailable
from clew_spec.jobs import JobState
from clew_worker.fleet import parse, workers
from clew_worker.gpus import chosen, found
from clew_worker.supervisor.exits import DRAINED

__all__ = ["fleet"]
THREE = "0, GPU-aaa1\n1, GPU-bbb2\n3, GPU-bbc3\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine whose nvidia-smi says this."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(said: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{said}'\n".replace("\n'", "\\n'"))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_a_worker_for_each_gpu_and_pool(machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(THREE)
    assert [(w.name, w.device) for w in parse(["--pool", "train", "--gpus", "auto", "--name", "box"])] == [
        ("box-0", "cuda:0"),
        ("box-1", "cuda:1"),
        ("box-3", "cuda:3"),
    ]
    everything = parse(["--pool", "all", "--gpus", "1,0"])
    assert [(w.pool, w.device) for w in everything] == [
        *((pool, "cuda:1") for pool in ("train", "circuits")),
        *((pool, "cuda:0") for pool in ("train", "circuits")),
    ]
    assert len({worker.name for worker in everything}) == 4
    assert [w.name for w in workers("train", ["cuda:1"], "mine")] == ["mine"]
    assert [w.name for w in workers("all", ["cpu"], "mine")] == ["mine-train", "mine-circuits"]
    with pytest.raises(InvalidSpec):
        workers("train", ["cpu"], "../else")
    for visible, expected in {"1": [1], "3,0": [3, 0], "GPU-aaa": [0], "1,7,0": [1], "": [], "-1": []}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert found() == expected, visible


def test_without_a_gpu_there_is_one_worker_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for asked in ("auto", "none"):
        (worker,) = parse(["--pool", "train", "--gpus", asked])
        assert worker.device == "cpu"


@pytest.mark.parametrize(
    ("asked", "error"),
    [("2", Unavailable), ("0,9", Unavailable), ("0,0", InvalidSpec), ("", InvalidSpec), ("all", InvalidSpec)],
)
def test_gpus_that_are_not_here_are_refused(machine: Callable[[str], None], asked: str, error: type[ClewError]) -> None:
    machine(THREE)
    with pytest.raises(error):
        chosen(asked)


def test_workers_of_one_command_are_started_again_counted_and_stopped(fleet: Fleet) -> None:
    """`clew worker` as an operator starts it: a worker of each pool, and Prometheus at two ports."""
    port = free_ports(1)[0]
    environ = {"CLEW_METRICS_PORT": str(port)}
    parent = fleet.start("clew_client", "worker", "--gpus", "none", "--name", "box", **environ)
    fleet.wait(lambda: {row.name for row in fleet.rows(Worker)} == {"box-train", "box-circuits"})
    fleet.scheduler()
    supervisors = [child for child in parent.children() if "clew_worker.supervisor" in child.cmdline()]
    assert len(supervisors) == 2
    for supervisor in supervisors:
        supervisor.kill()
    jobs = [fleet.submit("steps_3"), fleet.submit_circuit("steps_3")]
    assert [fleet.settle(job).state for job in jobs] == [JobState.SUCCEEDED] * 2, fleet.logs()
    assert not {child.pid for child in supervisors} & {child.pid for child in parent.children()}
    shown = "".join(httpx2.get(f"http://127.0.0.1:{at}/metrics").text for at in (port, port + 1))
    for kind in ("build-dataset", "attribute"):
        assert f'clew_worker_attempt_seconds_count{{kind="{kind}"}} 1.0' in shown
    _every_line_of_an_attempt_names_it(fleet, jobs[0].hex)
    left = parent.children(recursive=True)
    parent.terminate()
    assert parent.wait(30) == 0
    assert not [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def _every_line_of_an_attempt_names_it(fleet: Fleet, job_id: str) -> None:
    lines = [json.loads(line) for line in fleet.logs().splitlines() if line.startswith("{")]
    told = [line for line in lines if line["logger"] == "clew_worker.attempt"]
    assert told
    assert all({"job_id", "fence", "worker"} <= line.keys() for line in told)
    assert {line["event"] for line in told if line["job_id"].replace("-", "") == job_id} >= {"claimed", "concluded"}


def test_a_rolling_drain_loses_no_step(fleet: Fleet) -> None:
    """One worker after another is drained through the API, as for an upgrade; the job goes on from its checkpoint."""
    environ = fleet.lab.environ
    settings = fleet.lab.settings.model_copy(
        update={"database_url": SecretStr(under_role(environ["CLEW_DATABASE_URL"], "api"))}
    )
    with fleet.sessions.begin() as session:
        project = session.get_one(Project, fleet.actor.project_id)
        people = {admin: User(name=f"admin-{admin}".lower(), display_name="", admin=admin) for admin in (True, False)}
        session.add_all(people.values())
        session.flush()
        session.add_all(Membership(project_id=project.id, user_id=user.id, role="member") for user in people.values())
        keys = {
            admin: create_key(session, project, user.name, user=user, secret_key=settings.secret_key)[1]
            for admin, user in people.items()
        }
    fleet.scheduler()
    first = fleet.worker("w1", module="clew_worker")
    job_id = fleet.submit("steps_400", "ms_50")
    fleet.wait_for_step(job_id, 3)
    second = fleet.worker("w2", module="clew_worker")
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {keys[True]}"}) as api:
        refused = api.post("/api/v1/workers/w1/drain", headers={"Authorization": f"Bearer {keys[False]}"})
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:clew:forbidden")
        assert api.post("/api/v1/workers/nobody/drain").status_code == 404
        assert api.post("/api/v1/workers/w1/drain").status_code == 204
        assert first.wait(30) == DRAINED
        fleet.wait(lambda: fleet.job(job_id).preempt_count == 1)
        third = fleet.worker("w1", module="clew_worker")  # upgraded
        fleet.wait_for_state(job_id, JobState.RUNNING)
        assert api.post("/api/v1/workers/w2/drain").status_code == 204
        assert second.wait(30) == DRAINED
    job = fleet.settle(job_id)
    assert (job.state, job.preempt_count, job.lost_count, job.failure_count) == (JobState.SUCCEEDED, 2, 0, 0)
    assert {attempt for _, attempt in fleet.steps(job_id)} == {1, 2, 3}
    assert [row.target for row in fleet.rows(Audit, Audit.action == "worker.drain_requested")] == ["w1", "w2"]
    third.send_signal(signal.SIGTERM)
    assert third.wait(30) == 0

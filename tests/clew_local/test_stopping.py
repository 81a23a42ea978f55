"""A lab that stops waits for its workers: real processes in their places, and no servers of its own."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support.waiting import until

from clew_local.lab import Lab
from clew_local.servers import Stack
from clew_local.services import Service, Worker, drain_seconds
from clew_local.state import load
from clew_local.supervision import State, Watch

DRAINS = """
import os, pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: open(folder / f"{name}.asked", "a").write("once "))
(folder / f"{name}.listens").touch()
while not ((folder / f"{name}.asked").exists() and (folder / "checkpoint").exists()): time.sleep(0.02)
"""

SUPERVISES = """
import pathlib, signal, sys, time
from clew_local.state import LabState, PartState
data = pathlib.Path(sys.argv[1])
state = LabState("running", drain_s=80, parts=[PartState("worker-train", "ready", pid=1), PartState("api", "ready", 2)])
def stop(*_):
    state.state = "stopping"
    state.save(data)
signal.signal(signal.SIGTERM, stop)
state.save(data)
while not (data / "checkpoint").exists(): time.sleep(0.02)
"""


@pytest.fixture
def lab_and_said(tmp_path: Path, stack: Stack) -> tuple[Lab, list[str]]:
    """Two workers that listen; they end when they were asked to and the file `checkpoint` is there."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("waiting for"):
            said.append(json.loads((tmp_path / "lab" / "lab.json").read_text())["state"])
            (tmp_path / "checkpoint").touch()

    environ = stack.endpoints().environment()
    lab = Lab(tmp_path / "lab", say=say, environ=environ)
    (tmp_path / "drains.py").write_text(DRAINS)
    for name in ("worker-train", "worker-circuits"):
        service = Service(name, lab.data, {"PYTHONPATH": str(tmp_path)}, "drains", str(tmp_path), name)
        service.launch()
        lab._services.append(service)
        lab._watches.append(Watch(service, say, State.READY))
        until((tmp_path / f"{name}.listens").exists, f"{name} listens")
    return lab, said


def test_a_stop_waits_for_checkpoints_and_says_so(tmp_path: Path, lab_and_said: tuple[Lab, list[str]]) -> None:
    lab, said = lab_and_said
    lab._state.drain_s = 80
    for service in lab._services:
        service.stop_seconds = 60
    lab._stop("stopped")
    assert said == [
        "waiting for worker-train and worker-circuits: a running job writes a checkpoint first (at most 80 s)",
        "stopping",
    ]
    for service in lab._services:
        assert service.child.returncode == 0, "not killed"
        assert (tmp_path / f"{service.name}.asked").read_text() == "once "
    state = load(lab.data)
    assert state is not None
    assert (state.state, state.draining) == ("stopped", None)


def test_one_that_takes_too_long_is_killed(tmp_path: Path, lab_and_said: tuple[Lab, list[str]]) -> None:
    lab, _ = lab_and_said
    lab._say = lambda _: None
    patient, late = lab._services
    patient.stop_seconds, late.stop_seconds = 60, 0

    def write_when_the_late_one_is_dead() -> None:
        until(lambda: late.child.pid is None, "it is killed")
        (tmp_path / "checkpoint").touch()

    writer = threading.Thread(target=write_when_the_late_one_is_dead)
    writer.start()
    lab._stop("stopped")
    writer.join()
    assert (patient.child.returncode, late.child.returncode) == (0, -9)


def test_a_worker_has_the_time_that_its_settings_give_it(tmp_path: Path) -> None:
    assert drain_seconds({}) == 80
    environ = {"CLEW_CHECKPOINT_GRACE_S": "300", "CLEW_KILL_GRACE_S": "5"}
    assert Worker("train", tmp_path, environ, "cpu").stop_seconds == 315


def test_down_says_what_it_waits_for(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISES, tmp_path])
    try:
        until(lambda: load(tmp_path) is not None, "it runs")
        clew = Path(sys.executable).with_name("clew")
        down = subprocess.Popen(
            [clew, "down", "--data", tmp_path, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert down.stdout is not None
        assert down.stderr is not None
        words = down.stderr.readline()
        assert words == "waiting for worker-train: a running job writes a checkpoint first (at most 80 s)\n"
        (tmp_path / "checkpoint").touch()
        assert json.loads(down.stdout.read())["was_running"]
        assert down.wait(timeout=30) == 0
        assert supervisor.wait(timeout=30) == 0, "not killed"
    finally:
        supervisor.kill()
        supervisor.wait()

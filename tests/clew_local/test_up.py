"""`clew up`, `clew status`, `clew down`: the whole lab, killed and stopped, in a home that is empty."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.support.waiting import until

from clew_local.servers.process import end_leftovers, is_running
from clew_local.servers.stack import Stack

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="children must die with the parent"),
]
SERVICES = {"seaweed", "valkey", "postgres", "api", "scheduler", "worker-train", "worker-circuits"}


@dataclass
class Shell:
    """A user with an empty home that nobody else may enter."""

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "lab"

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLEW_", "XDG_"))}
        return kept | {"HOME": str(self.home)}

    def command(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).with_name("clew")), *words, "--data", str(self.data), "--json"]

    def clew(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), env=self.environ(), capture_output=True, text=True, timeout=200, check=False
        )

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.clew("status").stdout)
        return answer

    def processes(self) -> list[psutil.Process]:
        """The supervising process and everything below it."""
        supervisor = psutil.Process(json.loads((self.data / "lab.json").read_text())["pid"])
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture
def shell() -> Iterator[Shell]:
    yield from a_user()


@pytest.fixture
def another() -> Iterator[Shell]:
    """On a machine of their own."""
    yield from a_user()


def a_user() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory() as home:
        shell = Shell(Path(home))
        yield shell
        shell.clew("down")
        end_leftovers(shell.data)
        Stack(shell.data, environ={}).destroy()


def jobs(url: str, key: str | None) -> int:
    """The HTTP status of the list of jobs."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.get(f"{url}/api/v1/jobs", headers=headers, timeout=30).status_code


@pytest.mark.timeout(400)
def test_a_lab_is_started_killed_and_stopped(shell: Shell) -> None:
    started = shell.clew("up", "--detach")
    assert started.returncode == 0, started.stderr
    answer = json.loads(started.stdout)
    url, key = answer["url"], answer["key"]
    assert key.startswith("clew_")
    assert jobs(url, key) == 200
    assert jobs(url, None) == 401
    stored = shell.home / ".config" / "clew" / "credentials.json"
    assert json.loads(stored.read_text()) == {"url": url, "key": key}
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600

    until(lambda: bool(shell.status()["ok"]), "every part is well", seconds=60)
    status = shell.status()
    assert {part["name"] for part in status["parts"]} == SERVICES
    again = json.loads(shell.clew("up", "--detach").stdout)
    assert again["already_running"]
    assert again["key"] is None, "shown once"
    for log in (shell.data / "logs").iterdir():
        assert key not in log.read_text(errors="replace"), log

    processes = shell.processes()
    assert len(processes) > len(SERVICES)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # they end with their parent, sooner than this comes to them
            process.kill()
    until(lambda: not any(map(is_running, processes)), "all of it is dead")
    assert shell.status()["state"] == "killed"

    foreground = subprocess.Popen(shell.command("up"), env=shell.environ(), stdout=subprocess.PIPE, text=True)
    try:
        assert foreground.stdout is not None
        answer = json.loads(foreground.stdout.readline())
        assert (answer["url"], answer["key"]) == (url, None)
        assert jobs(url, key) == 200, "the database remembers the key"

        pids = {part["name"]: part["pid"] for part in shell.status()["parts"]}
        for name in ("postgres", "api", "worker-train"):
            os.kill(pids[name], signal.SIGKILL)

        def recovered() -> bool:
            status = shell.status()
            return bool(status["ok"]) and sum(part["restarts"] for part in status["parts"]) >= 3

        until(recovered, "what died is back", seconds=120)
        assert jobs(url, key) == 200

        processes = shell.processes()
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(timeout=100) == 0
    finally:
        foreground.kill()
        foreground.wait()
    assert not any(map(is_running, processes)), "nothing is left behind"
    assert shell.status()["state"] == "stopped"


@pytest.mark.timeout(400)
def test_a_lab_is_backed_up_while_it_runs_and_restored_elsewhere(shell: Shell, another: Shell) -> None:
    """Whoever had a key still has it, though the second lab made passwords of its own."""
    key = json.loads(shell.clew("up", "--detach").stdout)["key"]
    folder = shell.home / "backup"
    done = shell.clew("backup", str(folder))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] >= 3
    for words, why in ((("backup", folder), "is there already"), (("restore", folder), "a lab runs in")):
        refused = shell.clew(*map(str, words))
        assert refused.returncode == 1
        assert why in refused.stderr
    assert shell.clew("down").returncode == 0
    assert "not empty" in shell.clew("restore", str(folder)).stderr
    restored = another.clew("restore", str(folder))
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["keys_are_good"]
    url = json.loads(another.clew("up", "--detach").stdout)["url"]
    assert jobs(url, key) == 200


def test_a_lab_that_cannot_start_says_why_and_leaves_nothing(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = shell.clew("up", "--detach", "--port", str(taken.getsockname()[1]))
        assert failed.returncode == 1
        assert f"port {taken.getsockname()[1]}" in failed.stderr
        assert "Traceback" not in failed.stderr
    assert shell.status()["state"] == "failed"
    run = shell.data / "run"
    assert not run.exists() or not list(run.iterdir())

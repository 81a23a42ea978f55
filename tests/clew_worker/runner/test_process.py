"""The runner as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.waiting import until

from clew_spec.datasets import BuildDatasetSpec
from clew_spec.runner import EVENTS_FILE, RunJob


@pytest.fixture
def runner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "clew_worker.runner"], stdin=subprocess.PIPE) as process:
        until(lambda: _hears_sigterm(process.pid), "the runner listens")
        yield process
        process.kill()


def _hears_sigterm(pid: int) -> bool:
    (caught,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> 14 & 1)


def test_an_idle_runner_ends_when_it_is_told(runner: subprocess.Popen[bytes]) -> None:
    runner.terminate()
    assert runner.wait(10) == 0


def test_a_runner_whose_job_failed_ends_when_it_is_told(runner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The supervisor trusts it no more and tells it the moment it reads `failed`."""
    job = RunJob(
        job_id="j",
        project_id="no/project",
        fence=1,
        spec=BuildDatasetSpec(name="d", model="m"),
        scratch=str(tmp_path),
        cache=str(tmp_path),
        code_version="test",
    )
    assert runner.stdin is not None
    runner.stdin.write(job.model_dump_json().encode() + b"\n")
    runner.stdin.flush()
    events = tmp_path / EVENTS_FILE
    until(lambda: events.exists() and '"failed"' in events.read_text(), "the job fails", seconds=120)
    runner.terminate()
    assert runner.wait(10) == 0

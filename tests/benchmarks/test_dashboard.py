"""Every measure of the dashboard runs, in a process of its own as for `make bench`."""

import subprocess
import sys

import pytest
from benchmarks.bench import ROOT
from benchmarks.dashboard import MEASURES


@pytest.mark.browser
def test_each_measure_finds_a_number() -> None:
    command = [sys.executable, "-m", "benchmarks", "dashboard", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert "could not be measured" not in done.stdout, done.stdout
    for measure in MEASURES:
        assert f"dashboard/{measure}" in done.stdout, done.stdout + done.stderr

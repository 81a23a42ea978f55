"""What docs/pipelines.md says, on the running lab."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew_client import Lab
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from tests.thread.conftest import RunningLab

pytestmark = pytest.mark.lab

TEXT = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
HERE = {"smollm2-135m": "toy", "[8, 9, 10]": "[0, 1, 2]", "[8]": "[2]", "L08": "L02"}
"""The toy model has another name, and four layers."""


def examples(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    for there, here in HERE.items():
        found = [example.replace(there, here) for example in found]
    return found


def clew(thread: RunningLab, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "clew_client", *words]
    done = subprocess.run(command, env=thread.environ, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lab(thread: RunningLab) -> Lab:
    thread.client.submit(ImportModelSpec(name="toy", path=str(thread.imports / "toy"))).wait(check=True)
    return thread.client


def test_the_files_do_what_they_say(thread: RunningLab, lab: Lab, tmp_path: Path) -> None:
    pipeline, sweep = (tmp_path / name for name in ("decade.yaml", "rates.yaml"))
    for path, example in zip((pipeline, sweep), examples("yaml"), strict=True):
        path.write_text(example)
    planned = json.loads(clew(thread, "submit", str(pipeline), "--dry-run", "--json"))["jobs"]
    assert {name: job["depends_on"] for name, job in planned.items()} == {
        "text": [],
        "coders": ["text"],
        "measured": ["coders"],
        "graph": ["coders"],
    }
    shown = clew(thread, "submit", str(pipeline), "--watch")
    batch_id = re.search(r"jobs: (\S+)", shown)
    assert batch_id is not None
    batch = lab.batch(batch_id[1])
    assert (batch.view.kind, batch.view.name, batch.view.states) == ("pipeline", "decade", {JobState.SUCCEEDED: 4})
    (graph,) = lab.graphs(name="decade-graph")
    assert graph.job_id == batch.job("graph").id
    assert batch.job("measured").view.inputs["coders"] == batch.job("graph").view.inputs["coders"]
    listed = json.loads(clew(thread, "jobs", "--pipeline", str(batch.id), "--json"))
    assert [job["batch"]["step"] for job in reversed(listed)][:2] == ["text", "coders"]

    estimate = json.loads(clew(thread, "submit", str(sweep), "--dry-run", "--json"))
    assert (estimate["jobs"], estimate["largest"]["fits"]) == (4, True)
    made = json.loads(clew(thread, "submit", str(sweep), "--json"))
    rates = lab.batch(made["id"]).wait(check=True)
    assert sorted(job.name for job in rates.jobs()) == ["rates-1", "rates-2", "rates-3", "rates-4"]
    assert {job.priority for job in rates.jobs()} == {"low"}
    text = next(iter(lab.datasets(name="decade-text")))
    assert {job for each in rates.jobs() for job in lab.job(each.id).view.inputs["dataset"]} == {text.id}
    assert "rates" in clew(thread, "batches", "list")
    fast = json.loads(clew(thread, "clone", str(next(rates.jobs()).id), "--set", "steps=12", "--json"))
    assert fast["spec"]["steps"] == 12
    assert lab.wait(fast["id"], check=True).state is JobState.SUCCEEDED


def test_the_lines_of_python_do_what_they_say(thread: RunningLab, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEW_CONFIG", thread.environ["CLEW_CONFIG"])
    said: dict[str, Any] = {}
    for lines in examples("python"):
        exec(compile(lines, "docs/pipelines.md", "exec"), said)  # noqa: S102
    assert said["pipeline"].view.states == {JobState.SUCCEEDED: 3}
    assert set(said["finals"]) == {"optimizer.lr=0.001", "optimizer.lr=0.01"}
    assert all(0 < fvu < 10 for fvu in said["finals"].values())
    assert 64 in said["weights"]["W_enc"].shape
    frame = said["again"].metrics().frame()
    assert (frame.index.name, frame.index.is_monotonic_increasing) == ("step", True)
    assert "L02/fvu" in frame.columns
    said["lab"].close()


def test_a_pipeline_that_fails_on_its_way_says_why_and_is_finished_by_a_retry(lab: Lab) -> None:
    """The graph's job is refused when its coders are there; the rest succeeds."""
    text = {"kind": "build-dataset", "name": "t", "model": "toy", "context": 64, "max_tokens": 20_000}
    train = {"kind": "train", "name": "short", "model": "toy", "dataset": "jobs/text", "layers": [1], "steps": 5}
    batch = lab.pipeline(
        {
            "text": text | {"source": {"kind": "pydoc", "packages": ["packaging"]}},
            "train": train | {"tokens_per_step": 32},
            "measured": {"kind": "evaluate", "coders": "jobs/train"},
        },
        name="fails",
    ).wait()
    assert batch.view.states == {JobState.SUCCEEDED: 1, JobState.FAILED: 2}
    failed = batch.job("train").view
    assert failed.error is not None
    assert (failed.error.where, failed.attempts) == ("/spec/tokens_per_step", [])
    why = batch.job("measured").view.error
    assert why is not None
    assert "job short (train), which it waited for, has failed" in why.detail

"""The `clew` command, run as a user runs it."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.responses import Response
from hypothesis import HealthCheck, given, settings
from tests.clew_client.contract import KEY, NO_ESTIMATE, Contract, problem_answer
from tests.clew_client.specs import EVALUATE, requests

from clew_client.cli import main
from clew_client.commands.submit import SPECS
from clew_client.flags import arguments
from clew_spec.api import EstimateView, JobView, WorkerFit
from clew_spec.errors import DataError
from clew_spec.estimates import Disk, Estimate, Memory, Part
from clew_spec.jobs import JobRequest, JobState
from clew_spec.training import TrainSpec

Run = Callable[..., int]

TRAIN = "kind: train\nname: demo\nmodel: m\ndataset: d\nlayers: [0, 1]\nsteps: 10\noptimizer: {lr: 1e-3}\n"


@pytest.fixture
def run(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command in this process; returns its exit code."""
    monkeypatch.setenv("CLEW_URL", contract.url)
    monkeypatch.setenv("CLEW_KEY", KEY)

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def asked(contract: Contract) -> JobRequest:
    """What the newest submission asked for."""
    found = contract.requests[-1][2]
    assert found
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests)
def test_flags_say_all_that_a_spec_says(contract: Contract, run: Run, request: JobRequest) -> None:
    words = ["--reuse" if request.reuse else "--no-reuse"]
    requests = {f"requests.{name}": value for name, value in request.requests.model_dump(exclude_none=True).items()}
    for name, value in (request.model_dump(exclude={"spec", "reuse", "requests"}) | requests).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    assert run("submit", request.spec.kind, *arguments(request.spec), *words, "--json") == 0
    assert asked(contract) == request


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests)
def test_files_say_all_that_a_request_says(contract: Contract, run: Run, request: JobRequest, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(request.model_dump_json(indent=1), encoding="utf-8")
    assert run("submit", str(path)) == 0
    assert asked(contract) == request


def test_yaml_as_people_write_it(contract: Contract, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN)
    assert run("submit", "--max-retries", "2", str(path), "--priority", "high") == 0
    request = asked(contract)
    assert isinstance(request.spec, TrainSpec)
    assert (request.max_retries, request.priority, request.spec.optimizer.lr) == (2, "high", 0.001)
    path.write_text(TRAIN.replace("name: demo", "name: no") + "seed: 017\n")
    assert run("submit", str(path)) == 2  # `no` is a word, but 017 is no number
    path.write_text(TRAIN.replace("name: demo", "name: no"))
    assert run("submit", str(path)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRAIN + "steps: 11\n", ["`steps` is given twice", "line 8"]),
        (TRAIN + "lyers: 1\n", ["`lyers` is not known here", "/spec/lyers", "did you mean `layers`?"]),
        (TRAIN.replace("10", "ten"), ["`steps` is 'ten'", "/spec/steps", "valid integer"]),
        (TRAIN.replace("train", "tune", 1), ["`kind` is 'tune'", "/spec/kind", "'build-dataset'"]),
        (TRAIN + "coder: {activation: {k: 9}, n_features: 8}\n", ["k = 9 is above n_features = 8", "/spec/coder"]),
        ("- 1\n", ["does not hold a mapping"]),
        ("a: [\n", ["neither YAML nor JSON", "line 2"]),
        ("!!python/object/apply:os.system [id]\n", ["neither YAML nor JSON"]),
    ],
)
def test_a_bad_file_is_told_where_it_is_bad(
    contract: Contract, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: list[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    assert run("submit", str(path), "--json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [part for part in said if part not in err] == []
    assert not contract.requests


def test_a_file_may_come_through_stdin(
    contract: Contract, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, code in ((TRAIN, 0), (TRAIN + "lyers: 1\n", 2), ("- 1\n", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run("submit", "-") == code
    assert isinstance(asked(contract).spec, TrainSpec)
    err = capsys.readouterr().err
    assert "/spec/lyers" in err
    assert "stdin does not hold a mapping" in err


ESTIMATE = EstimateView(
    estimate=Estimate.of(
        memory=Memory(
            moment="a training step", parts=[Part(name="model weights", bytes=3 * 2**30, field="/spec/model")]
        ),
        disk=Disk(published_bytes=2**20, checkpoint_bytes=0, worker_bytes=0),
        flops=6e12,
        tokens=1000,
        unknown={"tokens": "[bold]\x1b[31m"},
    ).timed([1e11, 1e10]),
    workers=[WorkerFit(name="w", pool="train", device="cpu", memory_bytes=2**30, fits=False)],
    fits=False,
    reason="too large",
)


def test_a_dry_run_says_what_the_job_would_take_and_submits_nothing(
    contract: Contract, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TRAIN)
    contract.estimate = ESTIMATE
    assert run("submit", str(path), "--dry-run") == 2
    out = capsys.readouterr().out
    said = ["3.0 GiB", "a training step", "model weights", "1.0 MiB", "1 min 00 s to 10 min 00 s", "2 finished jobs"]
    assert [part for part in [*said, "[bold]\\x1b", "too large", "1.0 GiB", "no"] if part not in out] == []
    assert run("submit", str(path), "--dry-run", "--json") == 2
    assert EstimateView.model_validate_json(capsys.readouterr().out) == ESTIMATE
    contract.estimate = ESTIMATE.model_copy(update={"fits": True})
    assert run("submit", "evaluate", "--coders", "demo", "--dry-run") == 0
    assert not contract.seen("POST", "/jobs")


def test_what_a_job_takes_is_said_before_it_is_submitted(
    contract: Contract, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    contract.estimate = ESTIMATE.model_copy(update={"fits": True})
    assert run("submit", "evaluate", "--coders", "demo") == 0
    assert capsys.readouterr().err == "needs about 3.0 GiB of memory, 1.0 MiB of disk, 1 min 00 s to 10 min 00 s\n"
    assert [path for _, path, _ in contract.requests] == ["/api/v1/estimates", "/api/v1/jobs"]
    assert run("submit", "evaluate", "--coders", "demo", "--json") == 0
    assert capsys.readouterr().err == ""
    contract.estimate = NO_ESTIMATE
    assert run("submit", "evaluate", "--coders", "demo") == 0
    assert capsys.readouterr().err == "what it needs is not known: unseen\n"


@pytest.mark.parametrize("layers", ["0-", "x", "3-1", "0-999999999999", "1,,2", ""])
def test_bad_numbers(run: Run, capsys: pytest.CaptureFixture[str], layers: str) -> None:
    words = ["--name", "a", "--model", "m", "--dataset", "d", "--steps", "1"]
    assert run("submit", "train", *words, "--layers", layers) == 2
    assert "--layers" in capsys.readouterr().err


def test_lists_in_every_way(contract: Contract, run: Run) -> None:
    words = ["--name", "a", "--model", "m", "--dataset", "d", "--steps", "1"]
    assert run("submit", "train", *words, "--layers", "0-9,12", "--layers", "20", "--optimizer.betas", "0.5,0") == 0
    spec = asked(contract).spec
    assert isinstance(spec, TrainSpec)
    assert spec.layers == [*range(10), 12, 20]
    assert spec.optimizer.betas == [0.5, 0.0]


def _finish(state: JobState) -> Callable[[Contract], Callable[[JobView], None]]:
    def for_contract(contract: Contract) -> Callable[[JobView], None]:
        def finish(job: JobView) -> None:
            contract.happen(job, "state", state="running")
            contract.happen(job, "progress", phase="train", done=5, total=10, unit="steps", rate=2.5, eta_s=2.0)
            contract.happen(job, "metric", step=5, values={"L00/fvu": 0.5, "L01/fvu": 0.25, "loss": 1.5})
            contract.happen(job, "log", level="warning", message="[bold]odd[/] \x1b[31mred")
            error = DataError("no tokens", where="/spec/dataset", hint="build one").problem()
            contract.end(job, state, error if state is JobState.FAILED else None)

        return finish

    return for_contract


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_watching_to_the_end(
    contract: Contract, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    (tmp_path / "job.yaml").write_text(TRAIN)
    contract.on_submit = _finish(JobState(state))(contract)
    assert run("submit", str(tmp_path / "job.yaml"), "--watch") == code
    out, err = capsys.readouterr()
    assert f"train demo {state}" in out
    assert "train 5/10 steps, 2.5/s, 2 s left" in err
    assert "[bold]odd[/] \\x1b[31mred" in err
    assert ("no tokens" in err and "/spec/dataset" in err and "build one" in err) is (state == "failed")
    # For scripts: every event as a line of JSON, and nothing else.
    assert run("submit", str(tmp_path / "job.yaml"), "--watch", "--json") == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[-1]["data"]["state"] == state


def test_interrupting_a_watch_leaves_the_job(contract: Contract, run: Run, tmp_path: Path) -> None:
    contract.hold = True
    (tmp_path / "job.yaml").write_text(TRAIN)
    contract.on_submit = lambda job: contract.happen(job, "state", state="running")
    words = [sys.executable, "-m", "clew_client", "submit", str(tmp_path / "job.yaml"), "--watch"]
    child = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, as these tests may be one, ignore interrupts and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stderr
    heard = ""
    while "running" not in heard:
        line = child.stderr.readline()
        assert line, f"ended early: {heard}"
        heard += line
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    [job] = contract.jobs.values()
    assert child.returncode == 130
    assert "The job goes on" in said
    assert f"clew cancel {job.id}" in said
    assert "Traceback" not in said
    assert job.state is JobState.QUEUED
    assert not contract.seen("POST", f"/jobs/{job.id}/cancel")


def test_list_show_and_cancel_by_a_shortened_id(
    contract: Contract, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [contract.add(EVALUATE) for _ in range(3)]
    job = jobs[1]
    for step in range(3):
        contract.happen(job, "metric", step=step, values={"fvu": 0.5})
    short = next(
        str(job.id)[:n] for n in range(6, 36) if [j for j in jobs if str(j.id).startswith(str(job.id)[:n])] == [job]
    )
    assert run("show", short, "--events", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [event["seq"] for event in shown.pop("events")] == [1, 2, 3]
    assert JobView.model_validate_json(json.dumps(shown)) == job
    assert run("show", short.upper()) == 0
    page = capsys.readouterr().out
    assert "coders: demo" in page
    assert "L03/fvu" in page
    assert run("cancel", short) == 0
    assert run("cancel", short) == 1
    assert "nothing is left to cancel" in capsys.readouterr().err
    assert run("jobs", "--state", "queued", "--json") == 0
    assert {found["id"] for found in json.loads(capsys.readouterr().out)} == {str(jobs[0].id), str(jobs[2].id)}
    assert run("jobs", "--kind", "evaluate") == 0
    assert str(job.id)[:13] in capsys.readouterr().out


def test_an_id_that_is_short_for_none_or_for_many(
    contract: Contract, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in (1, 2):
        contract.add(EVALUATE, UUID(int=(0xABCDEF << 104) + n))
    assert run("show", "abcdef") == 2
    assert "2 jobs' ids" in capsys.readouterr().err
    assert run("show", "abcde0") == 1
    assert run("show", "abcde") == 2
    assert run("show", "../../x") == 2


def test_the_servers_verdict_is_an_exit_code(contract: Contract, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    problem = DataError("too long", where="/spec/prompt", expected="at most 1024 tokens", hint="cut it").problem()
    contract.answers.append(problem_answer(problem))
    assert run("submit", "evaluate", "--coders", "demo") == 2
    err = capsys.readouterr().err
    assert [part for part in ("too long", "/spec/prompt", "at most 1024 tokens", "cut it") if part not in err] == []
    contract.answers.append(Response("<html>", 404))
    assert run("jobs", "--json") == 1
    assert capsys.readouterr().out == ""


def test_health(contract: Contract, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("health") == 0
    contract.healthy = False
    assert run("health") == 1
    assert "refused" in capsys.readouterr().out
    assert run("health", "--json") == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"] is False


def test_login_stores_a_key_that_works(
    contract: Contract, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(os.environ["CLEW_CONFIG"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("clew_wrong\n"))
    assert run("login", contract.url) == 1
    assert not path.exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO(KEY + "\n"))
    assert run("login", contract.url + "/") == 0
    assert KEY not in "".join(capsys.readouterr())
    monkeypatch.delenv("CLEW_URL")
    monkeypatch.delenv("CLEW_KEY")
    assert run("jobs", "--json") == 0


def _clew(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clew_client", *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_other_packages_bring_sub_commands(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "plug.py": "def register(app):\n    @app.command()\n    def hello():\n        print('hello from a plug-in')\n",
        "plug-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: plug\nVersion: 1\n",
        "plug-1.dist-info/entry_points.txt": "[clew.commands]\nbroken = plug:nothing\ngood = plug:register\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = _clew("hello", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "hello from a plug-in\n")
    assert "Warning: the sub-commands of plug:nothing are missing" in done.stderr


def test_version_and_usage() -> None:
    done = _clew("--version")
    assert done.stdout.startswith("clew ")
    assert _clew("submit", "train").returncode == 2
    assert _clew("nonsense").returncode == 2
    assert "--coder.activation.k" in _clew("submit", "train", "--help").stdout


def test_a_shell_completes_kinds_and_their_flags() -> None:
    def completed(line: str) -> list[str]:
        cursor = str(line.count(" "))
        return _clew(_CLEW_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=cursor).stdout.split()

    assert completed("clew submit ") == list(SPECS)
    assert completed("clew submit ex") == ["export-coders"]
    assert completed("clew submit train --optimizer.b") == ["--optimizer.betas"]
    assert "--watch" in completed("clew submit sweep.yaml --")

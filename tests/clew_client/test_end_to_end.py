"""The `clew` command against the real API, on real servers."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session, sessionmaker
from tests.support.servers import Lab

import clew_client
from clew_client import JobFailed, Retry
from clew_client.credentials import Credentials, credentials_path, store
from clew_lab.catalogue.bootstrap import bootstrap
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.jobs import claim, dispatch, events, finalise, moves, report, workers
from clew_spec.errors import Conflict, DataError, InvalidSpec, NotFound
from clew_spec.jobs import JobState

Records = sessionmaker[Session]
Clew = Callable[..., str]


@pytest.fixture
def records(lab: Lab) -> Iterator[Records]:
    engine = make_engine(lab.settings.database_url.get_secret_value())
    yield session_factory(engine)
    engine.dispose()


@contextmanager
def serving(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m clew_api`, ready to answer."""
    other = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    process = subprocess.Popen([sys.executable, "-m", "clew_api"], env=other | lab.environ, stdout=subprocess.DEVNULL)
    try:
        with clew_client.Lab(url_of(lab), retry=Retry(attempts=200, first_s=0.1, longest_s=0.3)) as someone:
            assert someone.health().components
        assert process.poll() is None, "another server answers at this port"
        yield process
    finally:
        process.kill()
        process.wait()


def url_of(lab: Lab) -> str:
    return f"http://127.0.0.1:{lab.settings.api_port}"


@pytest.fixture
def key(lab: Lab, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lab's admin key, and the environment of a user who has stored it."""
    monkeypatch.setenv("CLEW_CONFIG", str(tmp_path / "credentials.json"))
    monkeypatch.delenv("CLEW_URL", raising=False)
    monkeypatch.delenv("CLEW_KEY", raising=False)
    with records.begin() as session:
        key = bootstrap(session, "main", "admin", secret_key=lab.settings.secret_key)
    assert key
    store(Credentials(url_of(lab), key))
    return key


@pytest.fixture
def clew(key: str) -> Clew:
    """Runs `clew`; returns what it said, on stdout if it succeeded as expected, else on stderr."""

    def clew(*words: str, code: int = 0, stdin: str = "") -> str:
        command = [sys.executable, "-m", "clew_client", *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert key not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return clew


def test_a_job_from_submission_to_cancellation(lab: Lab, clew: Clew, key: str, records: Records) -> None:
    path = _path(lab)
    credentials_path().unlink()
    with serving(lab):
        assert "clew login" in clew("jobs", code=1)
        assert "admin of project main" in clew("login", url_of(lab), stdin=key)
        job = json.loads(clew("submit", "import-model", "--name=smol", f"--path={path}", "--priority=high", "--json"))
        assert (job["state"], job["priority"], job["spec"]["path"]) == ("queued", "high", path)
        assert [found["id"] for found in json.loads(clew("jobs", "--state", "queued", "--json"))] == [job["id"]]
        short = job["id"][:13]
        assert json.loads(clew("show", short, "--json")) == job
        assert path in clew("show", short, "--events")
        assert "is cancelled" in clew("cancel", short)
        assert "is cancelled" in clew("cancel", short)  # asking twice is asking once
        clew("watch", short, code=1)
        assert json.loads(clew("models", "--json")) == []
        assert "No workers" in clew("health")
        with records.begin() as session:
            workers.register(session, "box", "train", device="cpu", memory_bytes=1)
        assert "asked to drain" in clew("drain", "box")
        assert re.search(r"box .*draining", clew("health"))
        assert "no worker 'other'" in clew("drain", "other", code=1)


def test_the_api_says_what_is_wrong(lab: Lab, clew: Clew) -> None:
    with serving(lab):
        said = clew("submit", "import-model", "--name", "smol", "--path", "/etc/passwd", code=2)
        assert "outside the import roots" in said
        assert "/spec/path" in said
        with clew_client.Lab() as client:
            with pytest.raises(InvalidSpec) as caught:
                client.submit({"kind": "evaluate", "coders": "none-such"})
            assert caught.value.where == "/spec/coders"
            with pytest.raises(NotFound):
                client.job(UUID(int=1))
            first = client.submit({"kind": "import-model", "name": "a", "path": _path(lab)}, idempotency_key="k")
            again = client.submit({"kind": "import-model", "name": "a", "path": _path(lab)}, idempotency_key="k")
            assert again.view == first.view
            with pytest.raises(Conflict):
                client.submit({"kind": "import-model", "name": "b", "path": _path(lab)}, idempotency_key="k")


def test_watching_survives_a_killed_server(lab: Lab, clew: Clew, records: Records, tmp_path: Path) -> None:
    """Events that happen before, between and after two servers arrive once each; the job's end is the exit code."""
    (tmp_path / "job.yaml").write_text(f"spec:\n  kind: import-model\n  name: smol\n  path: {_path(lab)}\n")
    words = [sys.executable, "-m", "clew_client", "submit", str(tmp_path / "job.yaml"), "--watch", "--json"]
    seen: list[dict[str, Any]] = []
    arrived = threading.Condition()

    def read(lines: Any) -> None:
        for line in lines:
            with arrived:
                seen.append(json.loads(line))
                arrived.notify()

    def heard(message: str) -> bool:
        return any(event["data"].get("message") == message for event in seen)

    with serving(lab) as server:
        watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=read, args=(watch.stdout,))
        reader.start()
        with arrived:
            assert arrived.wait_for(lambda: bool(seen), 60)
        job_id = UUID(seen[0]["job_id"])
        fence = _run(records, job_id)
        _log(records, job_id, fence, 1)
        with arrived:
            assert arrived.wait_for(lambda: heard("1"), 60)
        server.send_signal(signal.SIGKILL)
        server.wait()
    for n in range(2, 20):
        _log(records, job_id, fence, n)
    with serving(lab):
        with arrived:
            assert arrived.wait_for(lambda: heard("19"), 60)
        with records.begin() as session:
            finalise.fail(session, job_id, fence, DataError("truncated", hint="copy it").problem(), retryable=False)
        assert watch.wait(60) == 1
        reader.join()
        seqs = [event["seq"] for event in seen]
        assert seqs == list(range(seqs[0], seqs[-1] + 1))
        assert [event["data"]["message"] for event in seen if event["type"] == "log"] == [str(n) for n in range(1, 20)]
        assert seen[-1]["data"]["state"] == "failed"
        assert "truncated" in clew("show", str(job_id))
        assert "failed" in clew("cancel", str(job_id), code=1)
        with clew_client.Lab() as client:
            assert client.wait(job_id).state is JobState.FAILED


def test_watching_a_pipeline_tells_what_runs_and_what_failed(
    lab: Lab, clew: Clew, records: Records, tmp_path: Path
) -> None:
    specs = {name: {"kind": "import-model", "name": name, "path": _path(lab)} for name in ("one", "two")}
    (tmp_path / "both.json").write_text(json.dumps({"name": "both", "jobs": specs}))
    words = [sys.executable, "-m", "clew_client", "submit", str(tmp_path / "both.json"), "--watch"]
    with serving(lab), subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:

        def hear(pattern: str) -> str:
            said = []
            for line in watch.stderr or ():
                said.append(line)
                if re.search(pattern, line):
                    return line
            pytest.fail(f"{pattern} is not in {said}")

        hear("^2 queued$")
        with records.begin() as session:
            worker = workers.register(session, "w", "train", device="cpu", memory_bytes=1)
        with records.begin() as session:
            [bell] = dispatch.dispatch(session, lease_s=30, alive_s=30)
        progress = {"phase": "copy", "done": 3, "total": 9, "unit": "files", "at": "2026-01-01T00:00:00Z"}
        with records.begin() as session:
            assert claim.claim(session, bell.job_id, bell.fence, worker, lease_s=600)
            report.report(session, bell.job_id, bell.fence, [], number=1, progress=progress)
        assert re.search("import-model (one|two): copy 3/9 files", hear("1 running"))
        gone = DataError("the model is truncated").problem()
        with records.begin() as session:
            finalise.fail(session, bell.job_id, bell.fence, gone, retryable=False)
        assert str(bell.job_id) in hear("has failed: the model is truncated")
        assert watch.poll() is None, "another job still waits"
        with clew_client.Lab() as client:
            [other] = client.jobs(state=["queued"])
            assert other.batch is not None
            client.cancel(other.id)
            looks = []
            batch = client.batch(other.batch.id)
            with pytest.raises(JobFailed, match="truncated"):
                batch.wait(lambda *look: looks.append(look), check=True)
            assert [[job.id for job in failed] for _, _, failed in looks] == [[bell.job_id]]
        shown = watch.communicate(timeout=60)[0]
        assert watch.returncode == 1
        assert "failed" in shown
        assert "cancelled" in shown


def _path(lab: Lab) -> str:
    return str(lab.settings.import_roots[0] / "model")


def _run(records: Records, job_id: UUID) -> int:
    """What scheduler and worker do to start a job; returns its fence."""
    with records.begin() as session:
        worker = workers.register(session, "w", "train", device="cpu", memory_bytes=1)
    with records.begin() as session:
        [bell] = dispatch.dispatch(session, lease_s=30, alive_s=30)
    with records.begin() as session:
        assert claim.claim(session, job_id, bell.fence, worker, lease_s=600)
    return bell.fence


def _log(records: Records, job_id: UUID, fence: int, n: int) -> None:
    with records.begin() as session:
        events.append(session, moves.hold(session, job_id, fence), ("log", {"level": "info", "message": str(n)}))


def test_people_come_in_by_password_and_keys_are_made_turned_and_ended(
    lab: Lab, clew: Clew, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lab):
        assert "ada is a user" in clew("users", "create", "ada", "--password", stdin="thread of ariadne\n")
        clew("projects", "create", "maze", "--weight", "2", "--admin", "ada", "--max-stored", "1.5 TiB")
        said = clew("projects", "set", "maze", "--max-in-flight", "3", "--weight", "4")
        assert "weight 4, at most 3 jobs on workers, at most 1.5 TiB stored" in said
        assert "at most 3 jobs on workers, any size" in clew("projects", "set", "maze", "--max-stored", "none")
        assert "is no size, such as 200GiB" in clew("projects", "set", "maze", "--max-stored", "much", code=2)
        assert "maze" in clew("projects", "list")
        assert "ada is viewer of main" in clew("members", "add", "ada", "viewer")
        assert "ada is member of main" in clew("members", "set", "ada", "member")
        assert {one["name"] for one in json.loads(clew("members", "list", "--json"))} == {"admin", "ada"}
        assert "member.added" in clew("audit")

        assert "wrong" in clew("login", url_of(lab), "--user", "ada", stdin="thread of minos\n", code=1)
        said = clew("login", url_of(lab), "--user", "ada", "--project", "maze", stdin="thread of ariadne\n")
        assert "of project maze" in said
        assert json.loads(clew("jobs", "--json")) == []
        assert "user:manage" in clew("users", "list", code=1)
        made = json.loads(clew("keys", "create", "nightly", "--scope", "job:read", "--days", "7", "--json"))
        assert (made["scopes"], made["user"]) == (["job:read"], "ada")
        turned = clew("keys", "rotate", "nightly").strip()
        assert turned not in ("", made["key"])
        clew("keys", "revoke", made["id"][:13])
        assert "revoked" in clew("keys", "list")
        monkeypatch.setenv("CLEW_URL", url_of(lab))
        monkeypatch.setenv("CLEW_KEY", turned)
        assert "was revoked" in clew("jobs", code=1)
        monkeypatch.delenv("CLEW_KEY")
        own = json.loads(clew("keys", "list", "--json"))[-1]
        clew("keys", "rotate", own["id"])
        assert json.loads(clew("jobs", "--json")) == [], "the key at hand was stored anew"

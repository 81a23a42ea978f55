"""The supervisor's parts, each alone."""

import json
import os
import socket
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from tests.support.servers import S3
from tests.support.waiting import until

from clew_lab.jobs.moves import Fenced
from clew_lab.jobs.report import Orders
from clew_lab.storage import Store
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.runner import File, Log
from clew_worker.supervisor.arguments import parse
from clew_worker.supervisor.batch import MAX_MESSAGE, Batch
from clew_worker.supervisor.lease import Lease
from clew_worker.supervisor.process import Runner, clean_environment
from clew_worker.supervisor.tail import ProtocolError, Tail
from clew_worker.supervisor.uploads import Uploads
from clew_worker.supervisor.worker import trim


def lines(count: int) -> bytes:
    messages = [{"n": n, "t": 0.0, "type": "log", "message": f"Zeile {n} äöü"} for n in range(count)]
    return "".join(json.dumps(message, ensure_ascii=False) + "\n" for message in messages).encode()


@given(st.lists(st.integers(1, 40), max_size=30))
@settings(max_examples=30, deadline=None)
def test_events_are_read_once_however_they_are_written(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        tail, content, seen = Tail(path), lines(6), []
        assert tail.read() == []
        for size in [*sizes, len(content)]:
            with path.open("ab") as file:
                file.write(content[:size])
            content = content[size:]
            seen += tail.read()
        assert [event.n for event in seen] == list(range(6))
        assert tail.read() == []


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"\n", b"\xff\n", lines(2).splitlines(True)[1]])
def test_what_is_no_event_or_out_of_order_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(line)
    with pytest.raises(ProtocolError):
        Tail(tmp_path / "events.jsonl").read()


def test_a_lease_is_let_go_in_time_though_the_beat_hangs() -> None:
    lost, hang = Event(), Event()

    def renew() -> Orders:
        hang.wait(30)  # as on a connection whose peer is silent
        return Orders()

    began = time.monotonic()
    with Lease(renew, claimed_at=began, beat_s=0.05, fence_after_s=0.4, on_lost=lost.set) as lease:
        assert lost.wait(10)
        assert time.monotonic() - began >= 0.4
        assert lease.lost.is_set()
    hang.set()


def test_a_lease_survives_missed_beats_and_carries_orders() -> None:
    beats, lost, enough = 0, Event(), Event()

    def renew() -> Orders:
        nonlocal beats
        beats += 1
        if beats % 2:
            raise OperationalError("beat", {}, Exception("gone"))
        if beats >= 8:
            enough.set()
        return Orders(cancel=True)

    with Lease(renew, claimed_at=time.monotonic(), beat_s=0.02, fence_after_s=5, on_lost=lost.set) as lease:
        assert enough.wait(20)
        assert lease.orders.cancel
    assert not lost.is_set()


def test_a_fenced_lease_is_lost_at_once_and_once() -> None:
    calls: list[int] = []

    def renew() -> Orders:
        raise Fenced("another holds it")

    with Lease(
        renew, claimed_at=time.monotonic(), beat_s=0.02, fence_after_s=60, on_lost=lambda: calls.append(1)
    ) as lease:
        assert lease.lost.wait(10)
        until(lambda: bool(calls), "the loss is told")
    assert calls == [1]


def test_a_deaf_runner_and_its_children_are_ended(tmp_path: Path) -> None:
    script = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    runner = Runner([sys.executable, "-c", script], environ=dict(os.environ), cwd=tmp_path, log=tmp_path / "log")
    deadline = time.monotonic() + 30
    while not (said := runner.last_words().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    threads = [Thread(target=runner.end, args=(0.2,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not runner.alive
    assert runner.how_it_ended() == "was ended by SIGKILL"
    while Path(f"/proc/{said}/stat").exists() and Path(f"/proc/{said}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_runner_knows_its_device_and_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEW_DATABASE_URL", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "secret" not in clean_environment("cpu", offline=True).values()
    assert clean_environment("cpu", offline=True)["CUDA_VISIBLE_DEVICES"] == ""
    assert clean_environment("cuda:1", offline=True)["CUDA_VISIBLE_DEVICES"] == "1"
    assert clean_environment("cuda", offline=True)["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert clean_environment("cpu", offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in clean_environment("cpu", offline=False)


def test_a_runner_cannot_name_files_outside_its_scratch(s3: S3, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (scratch / "link").symlink_to(secret)
    (scratch / "good").write_bytes(b"secret")
    store = Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket)
    uploads = Uploads(
        store, scratch, "projects/p/{}".format, known=lambda *_: None, keep_trying=lambda: None, patience_s=0
    )
    digest = sha256(b"secret").hexdigest()
    for path in ("../secret", str(secret), "link", "none", "."):
        with pytest.raises(DataError):
            uploads.artifact(File(name="a", path=path, sha256=digest, size=6))
    with pytest.raises(InvalidSpec):
        uploads.artifact(File(name="../a", path="good", sha256=digest, size=6))
    assert uploads.artifact(File(name="a", path="good", sha256=digest, size=6)).key == "projects/p/a"
    assert list(store.keys("projects/")) == ["projects/p/a"]


def test_known_content_is_uploaded_again_where_it_is_not_there(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"tokens")
    digest = sha256(b"tokens").hexdigest()
    store = Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket)
    uploads = Uploads(
        store,
        tmp_path,
        "projects/p/2/{}".format,
        known=lambda *_: "projects/p/1/a",
        keep_trying=lambda: None,
        patience_s=0,
    )
    file = File(name="a", path="good", sha256=digest, size=6)
    assert uploads.artifact(file).key == "projects/p/2/a", "the catalogue knows it, the store has lost it"
    (tmp_path / "other").write_bytes(b"others")
    store.put("projects/p/1/a", tmp_path / "other", sha256(b"others").hexdigest())
    assert uploads.artifact(file).key == "projects/p/2/a", "something else lies there"
    store.delete("projects/p/1/a")
    store.put("projects/p/1/a", tmp_path / "good", digest)
    assert uploads.artifact(file).key == "projects/p/1/a"
    assert store.read("projects/p/2/a") == b"tokens"


def test_a_message_is_bounded_and_holds_nothing_that_postgres_refuses() -> None:
    batch = Batch(1)
    batch.add(Log(n=0, t=0.0, message="\x00" + "x" * (2 * MAX_MESSAGE) + "\x00"))
    ((_, data),) = batch.told()
    assert len(data["message"]) == MAX_MESSAGE
    assert "\x00" not in data["message"]


def test_the_cache_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    trim(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]


def test_a_host_may_have_a_worker_for_each_gpu_without_naming_them() -> None:
    names = {parse(["--pool", "train", "--device", device]).name for device in ("cpu", "cuda:0", "cuda:1")}
    assert len(names) == 3
    assert all(name.startswith(f"{socket.gethostname()}-train") for name in names)

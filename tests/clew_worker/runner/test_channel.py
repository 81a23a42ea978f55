"""What goes in and out of a runner, without a supervisor."""

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from clew_spec.errors import DataError
from clew_spec.evaluation import CoderMetrics
from clew_spec.results import EvaluationResult, Lineage
from clew_spec.runner import EVENTS_FILE
from clew_worker.runner.channel import Inbox, Outbox

pytestmark = pytest.mark.science


def outbox(scratch: Path) -> tuple[Inbox, Outbox]:
    inbox = Inbox(io.StringIO(""))
    return inbox, Outbox(scratch, inbox)


def events(scratch: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (scratch / EVENTS_FILE).read_text().splitlines()]


def test_a_message_of_another_version_ends_the_runner() -> None:
    runner = subprocess.run(
        [sys.executable, "-m", "clew_worker.runner"],
        input='{"type": "job", "spec": {"kind": "of-tomorrow"}}\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert runner.returncode == 2
    assert "of-tomorrow" in runner.stderr


@pytest.mark.parametrize(("keep", "expected"), [(True, ["checkpoint"]), (False, [])])
def test_only_a_preempted_job_hands_over_its_checkpoint(tmp_path: Path, keep: bool, expected: list[str]) -> None:
    inbox, report = outbox(tmp_path)
    folder = tmp_path / "out" / "checkpoints" / "00000007"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    inbox.request_stop(checkpoint=keep)
    report.checkpoint(7, folder)
    assert [event["type"] for event in events(tmp_path)] == expected


def test_numbers_that_are_none_are_told_and_left_out(tmp_path: Path) -> None:
    _, report = outbox(tmp_path)
    report.metric(3, {"L00/fvu": float("nan"), "L01/fvu": 0.5})
    log, metric = events(tmp_path)
    assert "L00/fvu" in str(log["message"])
    assert metric["values"] == {"L01/fvu": 0.5}
    assert [event["n"] for event in (log, metric)] == [0, 1]


def test_a_result_that_is_not_finite_is_no_result(tmp_path: Path) -> None:
    _, report = outbox(tmp_path)
    nan = float("nan")
    metrics = CoderMetrics(
        layer=0,
        tokens=1,
        fvu=nan,
        l0=nan,
        dead=0,
        dead_fraction=nan,
        ce_original=nan,
        ce_spliced=nan,
        ce_zero=nan,
        loss_recovered_zero=None,
    )
    with pytest.raises(DataError, match="not finite"):
        report.done(EvaluationResult(coders=[metrics], coder_ids=["a"], lineage=Lineage(code_version="test")))
    assert events(tmp_path) == []


def test_what_found_no_room_is_told_with_the_next_event(tmp_path: Path) -> None:
    """Half a line may be written when the disk is full."""
    _, report = outbox(tmp_path)
    report.log("before")
    had = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / EVENTS_FILE).stat().st_size + 10, had[1]))
    try:
        with pytest.raises(OSError, match="large"):
            report.log("in vain")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, had)
    report.log("after")
    assert [(event["n"], event["message"]) for event in events(tmp_path)] == [
        (0, "before"),
        (1, "in vain"),
        (2, "after"),
    ]


def test_files_are_told_with_their_digest_once_they_are_whole(tmp_path: Path) -> None:
    _, report = outbox(tmp_path)
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "b.json").write_text("{}")
    (tmp_path / "out" / "a.bin").write_bytes(b"abc")
    assert report.folder("things", tmp_path / "out") == ["things/a.bin", "things/deep/b.json"]
    first = events(tmp_path)[0]["file"]
    assert isinstance(first, dict)
    assert (first["path"], first["size"]) == ("out/a.bin", 3)
    assert first["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

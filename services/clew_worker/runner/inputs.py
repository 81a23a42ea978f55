"""Fetch what a job needs, once for each content, and lay it out as the job expects it."""

import os
import re
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

import httpx2

from clew.reporting import StopRequested
from clew_spec.errors import DataError, Unavailable
from clew_spec.runner import UPLOADED, Input
from clew_worker.runner.channel import Outbox

CHUNK = 1 << 20
DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, *[15.0] * 19)
"""Between tries: five minutes in all, for a store that is restarted."""
PROJECT_ID = re.compile(r"^[A-Za-z0-9-]{1,64}$")


def lay_out(inputs: Sequence[Input], folder: Path, *, cache: Path, project_id: str, report: Outbox) -> Path:
    """Every input below `folder` under its name. `cache/{project}/{sha256}` keeps the content for later jobs.

    Raises `DataError` where the content is gone or not what was promised, `Unavailable` where the store stays away,
    `StopRequested`.
    """
    if not PROJECT_ID.match(project_id):
        raise DataError(f"not a project id: {project_id!r}")
    shelf = cache / project_id
    shelf.mkdir(parents=True, exist_ok=True)
    total = sum(item.size for item in inputs) or 1
    done = 0
    for item in inputs:
        kept = shelf / item.sha256
        if not (kept.exists() and kept.stat().st_size == item.size):
            _fetch(item, kept, report, done, total)
        else:
            os.utime(kept)  # what was used last is evicted last
        done += item.size
        place = folder / _safe(item.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        _link(kept, place)
    return folder


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"an input may not be named {name!r}", expected="a relative path without `..`")
    return path


def _fetch(item: Input, kept: Path, report: Outbox, done: int, total: int) -> None:
    for delay in (*DELAYS_S, None):
        try:
            _download(item, kept, report, done, total)
        except httpx2.HTTPError as error:
            if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code == 404:
                raise DataError(f"{item.name} is gone from the store") from error
            what = f"{item.name} could not be fetched: {type(error).__name__}"
            if delay is None:
                raise Unavailable(what) from error
            report.log(f"{what}; again in {delay} s", "warning")
            _wait(delay, report)
        else:
            return


def _wait(seconds: float, report: Outbox) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _stop_if_told(report)
        time.sleep(min(left, 0.2))


def _stop_if_told(report: Outbox) -> None:
    if report.stop_requested():
        raise StopRequested


def _download(item: Input, kept: Path, report: Outbox, done: int, total: int) -> None:
    content = sha256()
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
        try:
            with httpx2.stream("GET", item.url, timeout=httpx2.Timeout(60, connect=5)) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_bytes(CHUNK):
                    if file.tell() + len(chunk) > item.size:
                        raise _another(item)
                    file.write(chunk)
                    content.update(chunk)
                    _stop_if_told(report)
                    report.progress("fetch", min(done + file.tell(), total - 1), total, "bytes")
            if content.hexdigest() != item.sha256:
                raise _another(item)
            file.flush()
            os.replace(file.name, kept)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _another(item: Input) -> DataError:
    """Of an upload this is the moment at which its content is held against what was announced."""
    expected = f"sha256 {item.sha256} and {item.size} bytes"
    if item.name.startswith(f"{UPLOADED}/"):
        name = item.name.removeprefix(f"{UPLOADED}/")
        return DataError(
            f"{name} is not what was announced when it was uploaded",
            expected=expected,
            hint="remove the upload, and send the file again",
        )
    return DataError(f"{item.name} is damaged in the store", expected=expected)


def _link(kept: Path, place: Path) -> None:
    try:
        os.link(kept, place)
    except OSError:  # another file system
        place.symlink_to(kept)

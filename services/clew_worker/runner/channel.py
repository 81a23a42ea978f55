"""The two ends of the protocol: events out through a file, messages in through stdin."""

import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from clew.files import file_sha256
from clew.reporting import Level
from clew_spec.errors import DataError
from clew_spec.results import Result
from clew_spec.runner import EVENTS_FILE, Cancel, File, Message, RunJob

MESSAGE: TypeAdapter[RunJob | Cancel] = TypeAdapter(Message)
PROGRESS_INTERVAL_S = 0.5
MEDIA_TYPES = {".json": "application/json", ".svg": "image/svg+xml"}


class Inbox:
    """Messages from the supervisor. Its silence is fine; its end means that nobody wants the work any more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._jobs: queue.Queue[RunJob | None] = queue.Queue()
        self._stop: Cancel | None = None
        self._busy = threading.Event()
        self._terminated = False
        threading.Thread(target=self._listen, name="inbox", daemon=True).start()

    def _listen(self) -> None:
        for line in self._stream:
            try:
                message = MESSAGE.validate_json(line)
            except ValidationError as error:
                # A supervisor of another version; one that waits for an answer would wait for ever.
                print(f"not a message this runner understands: {error}", file=sys.stderr, flush=True)
                os._exit(2)
            if isinstance(message, Cancel):
                self._stop = message
            else:
                self._stop = None
                self._jobs.put(message)
        if self._busy.is_set():
            os._exit(1)  # the supervisor is gone in mid-job: no one could publish what this process would produce
        self._jobs.put(None)

    def next_job(self) -> RunJob | None:
        self._busy.clear()
        if self._terminated:
            return None
        job = self._jobs.get()
        if job is not None:
            self._busy.set()
        return job

    @property
    def stop(self) -> Cancel | None:
        return self._stop

    def terminate(self) -> None:
        """On SIGTERM: a job stops at its next step; a runner without one has nothing to wait for."""
        self._terminated = True
        if not self._busy.is_set():
            os._exit(0)
        self.request_stop(checkpoint=False)

    def request_stop(self, *, checkpoint: bool) -> None:
        self._stop = Cancel(checkpoint=checkpoint)


class Outbox:
    """Appends events to `events.jsonl`, one complete line at a time. Implements `clew.reporting.Report`."""

    def __init__(self, scratch: Path, inbox: Inbox) -> None:
        self.scratch = scratch
        self._inbox = inbox
        self._file = (scratch / EVENTS_FILE).open("a", encoding="utf-8")
        self._n = 0
        self._phase = ""
        self._phase_began = (0.0, 0.0)
        self._progress_at = 0.0

    def emit(self, type: str, **fields: Any) -> None:
        event = {"n": self._n, "t": time.time(), "type": type, **fields}
        line = json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n"
        self._n += 1  # before it is written: what a full disk does not take is written with the next
        self._file.write(line)
        self._file.flush()

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_began, self._progress_at = phase, (now, done), 0.0
        if done < total and now - self._progress_at < PROGRESS_INTERVAL_S:
            return
        self._progress_at = now
        began, done_before = self._phase_began
        rate = (done - done_before) / (now - began) if now > began and done > done_before else None
        eta_s = (total - done) / rate if rate else None
        self.emit("progress", phase=phase, done=done, total=total, unit=unit, rate=rate, eta_s=eta_s)

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if len(finite) < len(values):
            self.log(f"step {step}: not a number: {', '.join(sorted(set(values) - set(finite)))}", "warning")
        if finite:
            self.emit("metric", step=step, values=finite)

    def log(self, message: str, level: Level = "info") -> None:
        self.emit("log", level=level, message=message)

    def stop_requested(self) -> bool:
        return self._inbox.stop is not None

    def file(self, name: str, path: Path, media_type: str = "application/octet-stream") -> File:
        """Describe a complete file inside scratch."""
        return File(
            name=name,
            path=path.relative_to(self.scratch).as_posix(),
            sha256=file_sha256(path),
            size=path.stat().st_size,
            media_type=media_type,
        )

    def artifact(self, name: str, path: Path) -> None:
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        self.emit("artifact", file=self.file(name, path, media_type).model_dump(mode="json"))

    def checkpoint(self, step: int, folder: Path) -> None:
        """Every file below `folder` belongs to the checkpoint, named relative to it. A cancelled job needs none."""
        if self._inbox.stop is not None and not self._inbox.stop.checkpoint:
            return
        files = [self.file(path.relative_to(folder).as_posix(), path) for path in _files_below(folder)]
        self.emit("checkpoint", step=step, files=[file.model_dump(mode="json") for file in files])

    def folder(self, prefix: str, folder: Path) -> list[str]:
        """Hand over every file below `folder` as an artifact; returns the names."""
        names = []
        for path in _files_below(folder):
            name = f"{prefix}/{path.relative_to(folder).as_posix()}"
            self.artifact(name, path)
            names.append(name)
        return names

    def done(self, result: Result) -> None:
        """Raises `DataError` where the result holds a number that is none."""
        try:
            self.emit("done", result=result.model_dump(mode="json"))
        except ValueError as error:
            raise DataError(
                f"the {result.kind} that came out hold values that are not finite",
                hint="lower the learning rate, or look for tokens on which nothing varies",
            ) from error

    def close(self) -> None:
        self._file.close()


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())

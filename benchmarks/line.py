"""A side of a benchmark, as seen from inside its process: JSON lines, a request on stdin, its answer on stdout.

| request | answer |
|---|---|
| `{"do": "setup", ...}`, first | `{"rss_bytes"}`: model and text are loaded, nothing else was done |
| `{"do": "step"}`, any number | `{"seconds", "peak_bytes"}` of one step: of training, or a graph; the first begins |
| `{"do": "finish"}`, after the last step | what the side has to tell, such as where its weights are; then it exits |

A side may be stopped or killed between two steps, and exits by itself when its stdin ends. Sizes are null where there
is no `/proc`. Nothing is imported that a peer's environment lacks.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Line:
    def __init__(self) -> None:
        # What libraries print must not get between the answers.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._began: float | None = None

    def setup(self) -> dict[str, Any]:
        """The arguments of the first request."""
        return self._request("setup")

    def ready(self) -> None:
        """Everything is loaded. Returns when the first step is asked for."""
        _reset_peak()
        self._answer({"rss_bytes": _memory("VmRSS")})
        self._request("step")
        self._began = time.perf_counter()

    def stepped(self) -> bool:
        """A step was made. Returns when the next one, or the end, is asked for: whether there is a next one.

        Raises RuntimeError where training goes on after `finish`.
        """
        if self._began is None:
            raise RuntimeError("a step was made after the last one that was asked for")
        self._answer({"seconds": time.perf_counter() - self._began, "peak_bytes": _memory("VmHWM")})
        going_on: bool = self._request("step", "finish")["do"] == "step"
        self._began = time.perf_counter() if going_on else None
        return going_on

    def finish(self, told: Mapping[str, Any]) -> None:
        self._answer(told)

    def _request(self, *expected: str) -> dict[str, Any]:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        request: dict[str, Any] = json.loads(line)
        if request["do"] not in expected:
            raise RuntimeError(f"the request was {request['do']!r}, expected {' or '.join(expected)}")
        return request

    def _answer(self, answer: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def _memory(name: str) -> int | None:
    """A size in bytes from `/proc/self/status`: `VmRSS` is resident now, `VmHWM` the most that ever was."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    sizes = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(sizes[name].split()[0]) * 1024


def _reset_peak() -> None:
    """Let VmHWM begin anew, so that the peak of loading a model is not taken for that of training."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not every container allows it
        return

"""A side of a benchmark, as seen from outside: a child process that runs only while a step of it is asked for."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from clew_spec.errors import ClewError

THREADS = 2
"""Of each side; only one runs at a time."""
LOG_LINES = 12


class ChildError(ClewError):
    code = "benchmark-child"
    title = "A side of a benchmark failed"


class Child:
    """Speaks the protocol of `benchmarks.line`. Between two requests the process is stopped, its threads with it.

    So nothing that a side prepares ahead is done in the other's time or outside its own. Every method raises ChildError
    where the process has ended.
    """

    def __init__(self, command: Sequence[str | Path], *, cwd: Path, log: Path, threads: int = THREADS) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "disabled"}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=os.environ | offline | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # A stopped process cannot see its stdin end. In a group of its own the kernel ends it when we die.
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let the process run until it has answered."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.send_signal(signal.SIGCONT)
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._ended(do)
        if do != "finish":
            self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def step(self) -> float:
        """Seconds that one step took."""
        return float(self.ask("step")["seconds"])

    def _ended(self, do: str) -> ChildError:
        code = self._process.wait()
        tail = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return ChildError(
            f"{self._log.stem} ended with code {code} where {do!r} was asked of it:\n" + "\n".join(tail),
            hint=f"all that it printed is in {self._log.name}",
        )

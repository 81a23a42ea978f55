"""What a measure is given: places, sizes, and whoever watches."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.child import Child
from benchmarks.venvs import python_of

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 1
"""Steps of each side that are not counted: the first one allocates, and looks at the activations."""
SECONDS_A_LINE = 30
"""Between words on how far a measure is, where there is no terminal."""


class Watch:
    """How far the present measure is and how long it will take: a bar, or lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=3600,
        )
        self._task = TaskID(0)
        self._said = 0.0

    @contextmanager
    def over(self, measure: str) -> Iterator[None]:
        self._said = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(measure)
        with self._bar:
            self._task = self._bar.add_task(measure, total=None)
            try:
                yield
            finally:
                self._bar.remove_task(self._task)

    def expect(self, steps: int) -> None:
        """So many steps are to come in this measure."""
        self._bar.update(self._task, total=steps)

    def stepped(self) -> None:
        self._bar.advance(self._task)
        if not self._console.is_terminal and time.monotonic() > self._said + SECONDS_A_LINE:
            self._said = time.monotonic()
            task = next(task for task in self._bar.tasks if task.id == self._task)
            left = "" if task.time_remaining is None else f", about {task.time_remaining / 60:.0f} minutes left"
            self._console.print(f"  {task.completed:.0f} of {task.total:.0f} steps{left}")


@dataclass(frozen=True)
class Bench:
    cache: Path
    watch: Watch
    steps: int | None = None
    """Repetitions, in place of each measure's own number."""
    tiny: bool = False
    """Sizes at which numbers mean nothing, to see that everything runs."""

    @property
    def full(self) -> bool:
        """Whether the rows are worth keeping."""
        return not self.tiny and self.steps is None

    def repetitions(self, usual: int) -> int:
        return usual if self.steps is None else min(usual, self.steps)

    def ours(self, module: str, name: str = "ours") -> Child:
        """A side of ours: `module`, run by this interpreter; `name` is that of its log."""
        return self._child(name, Path(sys.executable), module)

    def peer(self, name: str) -> Child:
        """The side of a peer, in its own environment."""
        return self._child(name, python_of(name, self.cache / "peers"), f"benchmarks.peers.{name}")

    def _child(self, name: str, python: Path, module: str) -> Child:
        return Child([python, "-m", module], cwd=ROOT, log=self.cache / "logs" / f"{name}.log")

    def interleave(self, ours: Child, peer: Child, repetitions: int) -> tuple[list[float], list[float]]:
        """Seconds of each counted step of ours and of the peer, taken in turns."""
        sides = (ours, peer)
        seconds: tuple[list[float], list[float]] = ([], [])
        self.watch.expect(len(sides) * (WARM_UP + repetitions))
        for repetition in range(-WARM_UP, repetitions):
            for side, found in zip(sides, seconds, strict=True):
                took = side.step()
                self.watch.stepped()
                if repetition >= 0:
                    found.append(took)
        return seconds

    def steps_of(self, side: Child, steps: int) -> Sequence[dict[str, Any]]:
        """The answers to `steps` steps of one side alone."""
        answers = []
        for _ in range(steps):
            answers.append(side.ask("step"))
            self.watch.stepped()
        return answers

"""How long work tells whoever runs it how far it is, and learns that it should stop."""

from collections.abc import Mapping
from typing import Literal, Protocol

Level = Literal["debug", "info", "warning", "error"]


class Report(Protocol):
    """Given to every function of the science that takes more than a moment."""

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        """`done` of `total` units of `phase`; rate and ETA are the receiver's arithmetic."""

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        """Values of named series at a step; per-layer names are `L03/fvu`."""

    def log(self, message: str, level: Level = "info") -> None: ...

    def stop_requested(self) -> bool:
        """Asked between steps. Where it is true, the work ends at that boundary by raising `StopRequested`."""


class StopRequested(Exception):
    """The work ended at a step boundary because it was told to. `step` is the last one that is complete."""

    def __init__(self, step: int | None = None) -> None:
        super().__init__("stopped on request")
        self.step = step


class Silent:
    """A report that goes nowhere; for notebooks and tests."""

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        del phase, done, total, unit

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        del step, values

    def log(self, message: str, level: Level = "info") -> None:
        del message, level

    def stop_requested(self) -> bool:
        return False

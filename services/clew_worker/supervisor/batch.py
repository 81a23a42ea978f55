"""What a runner told since the last write, gathered into one."""

import math
from datetime import UTC, datetime
from typing import Any

from clew_lab.jobs.events import Entry
from clew_spec.runner import Artifact, Log, Metric, Progress

MAX_MESSAGE = 10_000


class Batch:
    """Of progress only the newest counts; metrics become points of their series, and events for those who watch.

    number: counts an attempt's batches from 1.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: list[Entry] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.progress: dict[str, Any] | None = None

    def add(self, event: Any) -> None:
        """Take in an event, if it is of a type that is told."""
        match event:
            case Progress():
                at = datetime.fromtimestamp(event.t, UTC).isoformat()
                self.progress = {**event.model_dump(mode="json", exclude={"n", "t", "type"}), "at": at}
            case Metric():
                values = {name: value for name, value in event.values.items() if math.isfinite(value)}
                self.metrics.append((event.step, values))
                self.entries.append(("metric", {"step": event.step, "values": values}))
            case Log():
                self.log(event.message, event.level)
            case Artifact():
                file = event.file
                self.entries.append(("artifact", {"name": file.name, "size": file.size, "sha256": file.sha256}))

    def log(self, message: str, level: str = "info") -> None:
        self.entries.append(("log", {"level": level, "message": plain(message)}))

    @property
    def empty(self) -> bool:
        return not self.entries and self.progress is None

    def told(self) -> list[Entry]:
        return [*self.entries, ("progress", self.progress)] if self.progress is not None else self.entries


def plain(message: str) -> str:
    """Of bounded length, and without what Postgres cannot hold."""
    return message[-MAX_MESSAGE:].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()

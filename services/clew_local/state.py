"""`lab.json`: what the supervising process says of itself, for `clew status`, `clew down` and a waiting `clew up`."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from clew_local.files import read_json, write_json
from clew_local.servers.process import find

FILE = "lab.json"


@dataclass
class PartState:
    name: str
    state: str
    """`starting`, `ready`, `waiting` (died, to be started again), `external` (not ours)."""
    pid: int | None = None
    port: int | None = None
    restarts: int = 0


@dataclass
class LabState:
    state: str
    """`starting`, `running`, `stopping`, `stopped` or `failed`."""
    url: str | None = None
    detail: str | None = None
    """Why it failed."""
    key_is_new: bool = False
    """The admin key was made by this start, or by an earlier one that did not come to show it."""
    has_run: bool = False
    """This start came as far as `running`."""
    drain_s: float = 0.0
    """How long a worker of it may take to stop."""
    parts: list[PartState] = field(default_factory=list)
    pid: int = 0
    created: float = 0.0

    def save(self, data: Path) -> None:
        if not self.pid:
            self.pid = os.getpid()
            self.created = psutil.Process().create_time()
        write_json(data / FILE, asdict(self))

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        return find({"pid": self.pid, "created": self.created}) is not None

    @property
    def draining(self) -> str | None:
        """What a stopping lab waits for, in words; None where no worker of it runs any more."""
        left = [part.name for part in self.parts if part.name.startswith("worker-") and part.pid is not None]
        if self.state != "stopping" or not left:
            return None
        return f"waiting for {' and '.join(left)}: a running job writes a checkpoint first (at most {self.drain_s:g} s)"


def load(data: Path) -> LabState | None:
    """The last state of the lab in `data`; None where none was ever started."""
    value: dict[str, Any] | None = read_json(data / FILE)
    if value is None:
        return None
    parts = [PartState(**part) for part in value.pop("parts", [])]
    return LabState(**value, parts=parts)

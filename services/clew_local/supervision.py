"""One part under watch: a small state machine that starts it, sees it die and starts it again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from clew_local.servers.process import Child
from clew_spec.errors import ClewError

FIRST_DELAY, LAST_DELAY = 0.5, 30.0
STEADY_SECONDS = 60.0
"""A part that was ready for this long has its earlier deaths forgiven."""


class Part(Protocol):
    """A server or a service."""

    name: str
    child: Child

    @property
    def port(self) -> int | None: ...

    def launch(self) -> None: ...

    def ready(self) -> bool: ...

    def clean(self) -> None: ...


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It died; it is started again at `retry_at`."""


@dataclass
class Watch:
    """`step` is called again and again with the present time (seconds, any origin); it never waits."""

    part: Part
    say: Callable[[str], None]
    state: State = State.STARTING
    deaths: int = field(default=0)
    """In a row."""
    retry_at: float = 0.0
    since: float = 0.0

    def step(self, now: float) -> bool:
        """Look once and do what is due. Returns whether the state changed."""
        before = self.state
        if self.state is State.WAITING:
            if now >= self.retry_at:
                self._launch(now)
        elif self.part.child.pid is None:
            self._died(now, f"ended with code {self.part.child.returncode}")
        elif self.state is State.STARTING:
            if self.part.ready():
                self._enter(State.READY, now)
                if self.deaths:
                    self.say(f"{self.part.name} is back")
        elif self.deaths and now - self.since > STEADY_SECONDS:
            self.deaths = 0
        return self.state is not before

    def _launch(self, now: float) -> None:
        self._enter(State.STARTING, now)
        try:
            self.part.launch()
        except ClewError as error:
            self._died(now, f"did not start: {error}")

    def _died(self, now: float, how: str) -> None:
        delay = min(FIRST_DELAY * 2**self.deaths, LAST_DELAY)
        self.deaths += 1
        self.retry_at = now + delay
        self._enter(State.WAITING, now)
        self.say(f"{self.part.name} {how}; starting it again in {delay:g} s (log: {self.part.child.log})")

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now

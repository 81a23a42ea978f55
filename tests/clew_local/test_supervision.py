"""A part under watch: real processes, a clock of the test's own."""

import sys
from pathlib import Path

import pytest
from tests.support.waiting import until

from clew_local.servers.process import Child
from clew_local.supervision import FIRST_DELAY, LAST_DELAY, STEADY_SECONDS, State, Watch
from clew_spec.errors import Unavailable

SLEEPS = "import time; time.sleep(600)"
ENDS = "raise SystemExit(3)"


class Program:
    """Runs `code`; ready as soon as it runs."""

    name = "program"
    port = None

    def __init__(self, data: Path, code: str) -> None:
        self.child = Child(self.name, data)
        self.code: str | None = code

    def launch(self) -> None:
        if self.code is None:
            raise Unavailable("there is nothing to start")
        self.child.start([sys.executable, "-c", self.code])

    def ready(self) -> bool:
        return self.child.pid is not None

    def clean(self) -> None:
        pass

    def ended(self) -> bool:
        return self.child.pid is None


def state_of(watch: Watch) -> State:
    return watch.state  # by a call: a type checker does not know that `step` changes it


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_part_that_dies_is_started_again_ever_more_slowly_until_it_holds(tmp_path: Path, said: list[str]) -> None:
    part = Program(tmp_path, ENDS)
    watch = Watch(part, said.append)
    part.launch()
    now, delays = 0.0, []
    for _ in range(9):
        until(part.ended, "it ends")
        assert watch.step(now)
        assert state_of(watch) is State.WAITING
        delays.append(watch.retry_at - now)
        assert not watch.step(watch.retry_at - 0.01), "not before its time"
        now = watch.retry_at
        assert watch.step(now)
        assert state_of(watch) is State.STARTING
    assert delays == [min(FIRST_DELAY * 2**n, LAST_DELAY) for n in range(9)]
    assert delays[-1] == LAST_DELAY
    assert len(said) == 9
    assert "program ended with code 3" in said[0]

    until(part.ended, "it ends")
    watch.step(now)
    part.code = SLEEPS
    now = watch.retry_at
    watch.step(now)
    watch.step(now)
    try:
        assert state_of(watch) is State.READY
        assert said[-1] == "program is back"
        watch.step(now + STEADY_SECONDS)
        assert watch.deaths == 10
        watch.step(now + STEADY_SECONDS + 1)
        assert watch.deaths == 0, "forgiven"
    finally:
        assert part.child.stop() == -15
    assert not list((tmp_path / "run").iterdir())


def test_a_part_that_cannot_even_be_started_is_tried_again(tmp_path: Path, said: list[str]) -> None:
    part = Program(tmp_path, SLEEPS)
    watch = Watch(part, said.append, State.READY)
    part.code = None
    assert watch.step(0.0)
    assert state_of(watch) is State.WAITING
    assert not watch.step(watch.retry_at), "it waits again"
    assert watch.deaths == 2
    assert "there is nothing to start" in said[-1]
    part.code = SLEEPS
    watch.step(watch.retry_at)
    watch.step(watch.retry_at)
    assert state_of(watch) is State.READY
    part.child.stop()


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = Child("deaf", tmp_path)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child.start([sys.executable, "-c", code])
    until(lambda: child.log.read_text().startswith("1"), "it ignores the signal")
    assert child.stop(seconds=0.2) == -9


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-program"):
        Child("missing", tmp_path).start(["/no-such-program"])

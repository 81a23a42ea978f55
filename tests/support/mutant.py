"""`python -m tests.support.mutant CHANGE[,CHANGE] MODULE ARGUMENT...`: run a module in a worse world than it hopes for.

suspended: the clock by which a worker lets go of its lease stands still while the worker is stopped, as the clock of a
    machine that was suspended does. The promises must hold all the same: the fence alone keeps them then.
unfenced: no statement asks any more whether its writer holds the job under this fence. The promises cannot hold: a test
    that still passes sees nothing.
"""

import re
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

LONGEST_STEP_S = 1.0
QUESTIONS = {
    "fence": r" AND jobs\.fence = %\(fence_\d+\)s(?:::\w+)?",
    "state": r" AND jobs\.state = %\(state_\d+\)s(?:::\w+)?",
    "lease": r" AND jobs\.lease_expires_at < now\(\)",
}
"""What the store asks of a job before it writes: the conditions of its statements."""


def never_asks(question: str, engine: Engine | type[Engine] = Engine) -> None:
    """Take the condition out of every statement to this engine, or of all of this process."""
    condition = re.compile(QUESTIONS[question])

    def forget(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return condition.sub("", statement), parameters

    event.listen(engine, "before_cursor_execute", forget, retval=True)


class SuspendedClock:
    """In the place of the module `time`. It is read at least once a beat, so a longer step was a stop."""

    def __init__(self) -> None:
        self._read_at = self._now = time.monotonic()

    def monotonic(self) -> float:
        read_at = time.monotonic()
        self._now += min(read_at - self._read_at, LONGEST_STEP_S)
        self._read_at = read_at
        return self._now


def suspended() -> None:
    from clew_worker.supervisor import attempt, lease, task

    clock = SuspendedClock()
    vars(task)["time"] = vars(lease)["time"] = clock
    assert vars(attempt)["Lease"] is lease.Lease


CHANGES: dict[str, Callable[[], None]] = {"unfenced": lambda: never_asks("fence"), "suspended": suspended}

if __name__ == "__main__":
    _, changes, *sys.argv = sys.argv
    for name in filter(None, changes.split(",")):
        CHANGES[name]()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""Keep a worker going: Celery's process may end when its broker does, and is started again."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

import structlog

from clew_worker.supervisor.exits import DRAINED, NAME_TAKEN
from clew_worker.supervisor.process import die_with_parent

log = structlog.get_logger("clew_worker.watch")
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0


class Watch:
    """Starts the command again whenever it ends, until told to stop; then passes the signal on and waits.

    One that ended because it was drained, or because another has its name, is not started again: its code is ours.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def run(self) -> int:
        """Blocks the main thread. Returns the exit code of the last child."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        backoff = 1.0
        while True:
            started = time.monotonic()
            self._child = subprocess.Popen(self._command, start_new_session=True, preexec_fn=die_with_parent())
            if self._stopping.is_set():  # the signal came while there was no child
                self._child.terminate()
            code = self._child.wait()
            if self._stopping.is_set() or code in (DRAINED, NAME_TAKEN):
                return code
            backoff = 1.0 if time.monotonic() - started > HEALTHY_S else min(2 * backoff, MAX_BACKOFF_S)
            log.error("worker_ended", code=code, again_in_s=backoff)
            if self._stopping.wait(backoff):
                return code

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._stopping.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "clew_worker.supervisor", *words]

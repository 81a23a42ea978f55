"""Keep a worker going: Celery's process may end when its broker does, and is started again."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

import structlog

from clew_worker.supervisor.exits import DRAINED, NAME_TAKEN
from clew_worker.supervisor.process import die_with_parent

log = structlog.get_logger("clew_worker.watch")
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0


class Watch:
    """Starts a supervisor with these words again whenever it ends, until told to stop; then passes that on and waits.

    One that ended because it was drained, or because another has its name, is not started again: its code is ours.
    """

    def __init__(self, words: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-m", "clew_worker.supervisor", *words]
        self._environ = environ
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def keep(self) -> int:
        """Blocks until the last child has ended; returns its exit code."""
        backoff = 1.0
        while True:
            started = time.monotonic()
            self._child = subprocess.Popen(
                self._command, env=self._environ, start_new_session=True, preexec_fn=die_with_parent()
            )
            if self._stopping.is_set():  # it was told to stop while there was no child
                self._child.terminate()
            code = self._child.wait()
            if self._stopping.is_set() or code in (DRAINED, NAME_TAKEN):
                return code
            backoff = 1.0 if time.monotonic() - started > HEALTHY_S else min(2 * backoff, MAX_BACKOFF_S)
            log.error("worker_ended", code=code, again_in_s=backoff)
            if self._stopping.wait(backoff):
                return code

    def stop(self) -> None:
        """Returns at once. May be called from a signal handler."""
        self._stopping.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

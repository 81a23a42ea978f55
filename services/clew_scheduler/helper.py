"""One way to do something again and again: whatever is raised is told and counted, and it goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from clew_lab.jobs.notify import QUEUE, Listener
from clew_scheduler import monitoring
from clew_spec.errors import Unavailable

log = structlog.get_logger("clew_scheduler")
OUTAGES = (DBAPIError, psycopg.Error, Unavailable)
"""What a server that does not answer raises: worth a line, not a traceback."""
MAX_BACKOFF_S = 10.0


class Helper:
    """`turn` does it once, and returns after how many seconds it is to be called again.

    A turn that raises is made again after `backoff_s`, twice as long after each further one up to `MAX_BACKOFF_S`.
    """

    def __init__(self, name: str, turn: Callable[[], float], *, backoff_s: float = 1.0) -> None:
        self._name = name
        self._turn = turn
        self._shortest_s = backoff_s
        self._backoff_s = backoff_s

    def run(self, stop: threading.Event) -> None:
        """Turn until stopped. A turn that ended well is seen in the metrics, and by the health check."""
        came_round = monitoring.LAST_TURN.labels(self._name)
        came_round.set_to_current_time()
        while not stop.is_set():
            try:
                pause = self._turn()
                came_round.set_to_current_time()
                self._backoff_s = self._shortest_s
            except Exception as error:
                pause = self._failed(error)
            stop.wait(pause)

    def start(self, stop: threading.Event) -> None:
        """Run in a thread of its own: whatever is slow here holds up nothing else."""
        threading.Thread(target=self.run, args=(stop,), name=self._name, daemon=True).start()

    def _failed(self, error: Exception) -> float:
        monitoring.FAILED_TURNS.labels(self._name).inc()
        pause, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, MAX_BACKOFF_S)
        told = log.warning if isinstance(error, OUTAGES) else log.exception
        cause = getattr(error, "orig", error)
        told("turn_failed", loop=self._name, error=type(cause).__name__, again_in_s=pause)
        return pause


class Ear:
    """Hears that the queue has changed, over a connection that is opened anew once it was lost."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._listener: Listener | None = None

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """What changes from here on is heard, also by who only waits for it later."""
        try:
            if self._listener is None:
                self._listener = Listener(self._url, QUEUE)
            yield self._listener
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._listener is not None:
            with suppress(psycopg.Error):
                self._listener.close()
            self._listener = None

"""One connection listens for the whole process; whoever streams a job is woken when something happened to it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import structlog

from clew_lab.jobs.notify import JOBS, Listener

log = structlog.get_logger()

RECONNECT_S = 1.0


class Ring:
    """A stream's place at the bell. Set before a wait or during it: the wait ends."""

    def __init__(self, job_id: UUID | None) -> None:
        self.job_id = job_id
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Returns when rung, at the latest after `seconds`: a lost bell delays, it never loses."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._event.clear()


class Bell:
    """Everything but the listening thread runs on the event loop."""

    def __init__(self) -> None:
        self.closed = False
        self._rings: set[Ring] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, database_url: str) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen, args=(database_url, loop), name="bell", daemon=True)
        self._thread.start()

    @contextmanager
    def place(self, job_id: UUID | None) -> Iterator[Ring]:
        """Rung for one job, or for every job. Take it before the first look, so that nothing falls between."""
        ring = Ring(job_id)
        self._rings.add(ring)
        try:
            yield ring
        finally:
            self._rings.discard(ring)

    @property
    def places(self) -> int:
        return len(self._rings)

    def ring(self, job_id: UUID | None) -> None:
        """For the streams of that job; None is for all of them."""
        for ring in self._rings:
            if None in (job_id, ring.job_id) or ring.job_id == job_id:
                ring.ring()

    def close(self) -> None:
        """Ends every stream and, soon, the thread."""
        self.closed = True
        self._stop.set()
        self.ring(None)

    def _listen(self, database_url: str, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.is_set():
            try:
                listener = Listener(database_url, JOBS)
                try:
                    loop.call_soon_threadsafe(self.ring, None)  # for what was missed before
                    while not self._stop.is_set():
                        for payload in listener.wait(RECONNECT_S):
                            loop.call_soon_threadsafe(self.ring, _job_id(payload))
                finally:
                    listener.close()
            except psycopg.Error as error:
                if not self._stop.is_set():
                    log.warning("bell.lost", error=type(error).__name__)
                self._stop.wait(RECONNECT_S)
            except RuntimeError:  # the loop is closed: the process ends
                return


def _job_id(payload: str) -> UUID | None:
    try:
        return UUID(payload)
    except ValueError:
        return None

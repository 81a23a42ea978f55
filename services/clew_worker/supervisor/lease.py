"""Keep a job's lease, and let go in time when it cannot be kept.

Two threads: one renews and may hang on a dead connection; the other only watches the clock, so that nothing can keep
it from ending the runner before the lease can be claimed by another.
"""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Self

import structlog
from sqlalchemy.exc import DBAPIError

from clew_lab.jobs.moves import Fenced
from clew_lab.jobs.report import Orders
from clew_worker.supervisor import monitoring

log = structlog.get_logger("clew_worker.lease")
RETRY_S = 1.0


class Lease:
    """Held inside `with`. `lost` is set, and `on_lost` called once, when the job may belong to another.

    claimed_at: `time.monotonic()` before the claim was asked for.
    """

    def __init__(
        self,
        renew: Callable[[], Orders],
        *,
        claimed_at: float,
        beat_s: float,
        fence_after_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        self._renew = renew
        self._beat_s = beat_s
        self._fence_after_s = fence_after_s
        self._good_until = claimed_at + fence_after_s
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._losing = threading.Lock()
        self.lost = threading.Event()
        self.orders = Orders()

    def __enter__(self) -> Self:
        for loop in (self._beat, self._watch):
            # A thread knows nothing of the job by itself: what is bound for the log comes with it.
            inside = copy_context().run
            threading.Thread(target=inside, args=(loop,), name=f"lease{loop.__name__}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def _beat(self) -> None:
        delay = self._beat_s
        while not self._closed.wait(delay) and not self.lost.is_set():
            asked = time.monotonic()
            try:
                self.orders = self._renew()
            except Fenced:
                self._lose("fenced")
            except DBAPIError as error:
                monitoring.BEATS_MISSED.inc()
                log.warning("beat_missed", error=type(error.orig).__name__)
                delay = min(RETRY_S, self._beat_s)
            else:
                # Counted from before the question: the database's lease began no earlier.
                self._good_until = asked + self._fence_after_s
                delay = self._beat_s

    def _watch(self) -> None:
        while not self._closed.is_set() and not self.lost.is_set():
            left = self._good_until - time.monotonic()
            if left <= 0:
                self._lose("no good beat")
            else:
                self._closed.wait(min(left, self._beat_s))

    def _lose(self, why: str) -> None:
        with self._losing:
            if self.lost.is_set() or self._closed.is_set():
                return
            self.lost.set()
        monitoring.LEASES_LOST.inc()
        log.warning("lease_lost", why=why)
        self._on_lost()

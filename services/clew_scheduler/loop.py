"""Dispatch and reap, promptly by notification and surely by polling. Any number of these may run."""

import threading
from contextlib import suppress

import psycopg
import structlog
from celery import Celery
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.jobs.broker import ring
from clew_lab.jobs.dispatch import Bell, dispatch
from clew_lab.jobs.notify import QUEUE, Listener
from clew_lab.jobs.reap import reap
from clew_lab.settings import Settings
from clew_scheduler import monitoring
from clew_spec.errors import Unavailable

log = structlog.get_logger("clew_scheduler")
DATABASE_ERRORS = (DBAPIError, psycopg.Error)
MAX_BACKOFF_S = 10.0


class Scheduler:
    def __init__(self, settings: Settings, sessions: sessionmaker[Session], app: Celery) -> None:
        self._settings = settings
        self._sessions = sessions
        self._app = app
        self._stop = threading.Event()
        self._backoff = settings.poll_s

    def stop(self) -> None:
        """End after the present turn."""
        self._stop.set()

    def run(self) -> None:
        """Turn until stopped, through any outage of Postgres or Redis."""
        while not self._stop.is_set():
            try:
                self._turn_until_lost()
            except DATABASE_ERRORS as error:
                monitoring.DATABASE_LOST.inc()
                log.warning("database_lost", error=type(error).__name__, again_in_s=self._backoff)
                self._stop.wait(self._backoff)
                self._backoff = min(2 * self._backoff, MAX_BACKOFF_S)

    def turn(self) -> list[Bell]:
        """Take back what lapsed, hand out what waits, ring. Returns the bells, rung or not."""
        settings = self._settings
        with self._sessions.begin() as session:
            for job_id in reap(session, max_lost=settings.max_lost):
                monitoring.LAPSED.inc()
                log.info("lease_lapsed", job_id=job_id)
        with self._sessions.begin() as session:
            bells = dispatch(
                session,
                lease_s=settings.dispatch_lease_s,
                alive_s=settings.alive_s,
                reserve_after_s=settings.reserve_after_s,
            )
        for bell in bells:
            try:
                ring(self._app, bell)
                monitoring.DISPATCHED.inc()
                log.info("dispatched", job_id=bell.job_id, fence=bell.fence, worker=bell.worker)
            except Unavailable as error:
                # The leases of these bells lapse, and they are rung again.
                monitoring.NOT_RUNG.inc()
                log.warning("bell_not_rung", job_id=bell.job_id, fence=bell.fence, error=str(error))
                break
        return bells

    def _turn_until_lost(self) -> None:
        listener = Listener(self._settings.database_url.get_secret_value(), QUEUE)
        try:
            while not self._stop.is_set():
                with monitoring.TURN_S.time():
                    self.turn()
                monitoring.LAST_TURN.set_to_current_time()
                self._backoff = self._settings.poll_s
                listener.wait(self._settings.poll_s)
        finally:
            with suppress(psycopg.Error):
                listener.close()

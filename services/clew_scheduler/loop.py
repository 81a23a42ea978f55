"""Dispatch and reap, promptly by notification and surely by polling. Any number of these may run."""

import threading

import structlog
from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.jobs.broker import ring
from clew_lab.jobs.dispatch import Bell, dispatch
from clew_lab.jobs.reap import reap
from clew_lab.jobs.workers import not_rung
from clew_lab.settings import Settings
from clew_scheduler import monitoring
from clew_scheduler.helper import Ear, Helper
from clew_spec.errors import Unavailable

log = structlog.get_logger("clew_scheduler")


class Scheduler:
    def __init__(self, settings: Settings, sessions: sessionmaker[Session], app: Celery) -> None:
        self._settings = settings
        self._sessions = sessions
        self._app = app
        self._stop = threading.Event()
        self._ear = Ear(settings.database_url.get_secret_value())

    def stop(self) -> None:
        """End after the present turn."""
        self._stop.set()

    def run(self) -> None:
        """Turn until stopped, through any outage of Postgres or Redis."""
        try:
            Helper("dispatch", self._turn_and_listen, backoff_s=self._settings.poll_s).run(self._stop)
        finally:
            self._ear.close()

    def turn(self) -> list[Bell]:
        """Take back what lapsed, hand out what waits, ring. Returns the bells, rung or not."""
        settings = self._settings
        with self._sessions.begin() as session:
            for job_id in reap(session, max_lost=settings.max_lost, rest_s=settings.dispatch_lease_s):
                monitoring.LAPSED.inc()
                log.info("lease_lapsed", job_id=job_id)
        with self._sessions.begin() as session:
            bells = dispatch(
                session,
                lease_s=settings.dispatch_lease_s,
                alive_s=settings.alive_s,
                reserve_after_s=settings.reserve_after_s,
            )
        for number, bell in enumerate(bells):
            try:
                ring(self._app, bell)
            except Unavailable as error:
                # The leases of these bells lapse, and they are rung again.
                monitoring.NOT_RUNG.inc(len(bells) - number)
                log.warning("bells_not_rung", jobs=len(bells) - number, error=str(error))
                with self._sessions.begin() as session:
                    not_rung(session, [bell.worker for bell in bells[number:]])
                break
            monitoring.DISPATCHED.labels(bell.pool).inc()
            log.info("dispatched", job_id=bell.job_id, fence=bell.fence, worker=bell.worker)
        return bells

    def _turn_and_listen(self) -> float:
        with self._ear.listening() as listener:
            with monitoring.TURN_S.time():
                self.turn()
            listener.wait(self._settings.poll_s)
        return 0.0

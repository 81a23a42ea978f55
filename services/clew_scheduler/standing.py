"""Say again and again where every waiting job stands."""

import threading
import time

import structlog
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.jobs.standing import look
from clew_scheduler.loop import DATABASE_ERRORS

log = structlog.get_logger("clew_scheduler.standing")


def look_until(stop: threading.Event, sessions: sessionmaker[Session], *, alive_s: float, every_s: float) -> None:
    """In a thread of its own: a long queue never holds up a dispatch. Of several schedulers, one looks at a time."""
    while not stop.is_set():
        began = time.monotonic()
        try:
            with sessions.begin() as session:
                look(session, alive_s=alive_s, fresh_s=every_s / 2)
        except DATABASE_ERRORS as error:
            log.warning("look_put_off", error=type(error).__name__)
        stop.wait(max(0.0, began + every_s - time.monotonic()))

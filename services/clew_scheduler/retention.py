"""Delete what ended jobs left in the object store and nobody can reach."""

import threading

import structlog
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.jobs.retention import collected, leftovers
from clew_lab.storage import Store
from clew_scheduler.loop import DATABASE_ERRORS
from clew_spec.errors import Unavailable

log = structlog.get_logger("clew_scheduler.retention")


def sweep(
    sessions: sessionmaker[Session], store: Store, *, after_s: float, checkpoints_after_s: float | None = None
) -> int:
    """Delete the leftovers of some attempts; returns of how many. Harmless to do twice, or side by side."""
    with sessions() as session:
        found = leftovers(session, after_s=after_s, checkpoints_after_s=checkpoints_after_s)
    for leftover in found:
        deleted = store.delete_prefix(leftover.prefix, keep=leftover.keep)
        with sessions.begin() as session:
            collected(session, leftover)
        log.info("collected", job_id=leftover.job_id, fence=leftover.fence, objects=deleted)
    return len(found)


def sweep_until(
    stop: threading.Event,
    sessions: sessionmaker[Session],
    store: Store,
    *,
    after_s: float,
    checkpoints_after_s: float,
    every_s: float = 60,
) -> None:
    """Sweep now and then, in a thread of its own: a slow store never holds up a dispatch."""
    while not stop.is_set():
        try:
            while (
                sweep(sessions, store, after_s=after_s, checkpoints_after_s=checkpoints_after_s) and not stop.is_set()
            ):
                pass
        except (*DATABASE_ERRORS, Unavailable) as error:
            log.warning("sweep_put_off", error=type(error).__name__)
        stop.wait(every_s)

"""Queue jobs that waited for others, as soon as what they refer to is there."""

import time
from uuid import UUID

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue.tokenizing import Tokenizers
from clew_lab.jobs.release import due, release
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_scheduler import monitoring
from clew_scheduler.helper import OUTAGES, Ear, Helper

log = structlog.get_logger("clew_scheduler.release")
PUT_OFF_S = 10.0
"""A job that could not be released now is left alone for this long."""


def release_due(
    sessions: sessionmaker[Session],
    tokenizers: Tokenizers,
    settings: Settings,
    put_off: dict[UUID, float] | None = None,
) -> int:
    """Release or end what is due, and what becomes due by that; returns how many.

    put_off: jobs that could not be, and until when they are left alone: no job keeps another from its turn.
    Raises what says that Postgres is away.
    """
    put_off = {} if put_off is None else put_off
    released = 0
    while True:
        for job_id in [job_id for job_id, until in put_off.items() if until <= time.monotonic()]:
            del put_off[job_id]
        with sessions() as session:
            found = due(session, without=put_off)
        if not found:
            return released
        for job_id in found:
            try:
                release(
                    sessions,
                    job_id,
                    tokenizer_of=tokenizers.get,
                    import_roots=settings.import_roots,
                    code_version=settings.code_version,
                )
            except Exception as error:
                put_off[job_id] = time.monotonic() + PUT_OFF_S
                monitoring.RELEASES_PUT_OFF.inc()
                told = log.warning if isinstance(error, OUTAGES) else log.exception
                told("release_put_off", job_id=job_id, error=type(error).__name__, again_in_s=PUT_OFF_S)
                if isinstance(error, OperationalError | InterfaceError):
                    raise
            else:
                released += 1
                log.info("released", job_id=job_id)


def release_helper(sessions: sessionmaker[Session], store: Store, settings: Settings) -> Helper:
    """Tokenizers come from the store, which may be slow."""
    tokenizers, put_off = Tokenizers(store.read), dict[UUID, float]()
    ear = Ear(settings.database_url.get_secret_value())

    def turn() -> float:
        with ear.listening() as listener:
            release_due(sessions, tokenizers, settings, put_off)
            listener.wait(settings.poll_s)
        return 0.0

    return Helper("release", turn, backoff_s=settings.poll_s)

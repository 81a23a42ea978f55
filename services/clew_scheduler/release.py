"""Queue jobs that waited for others, as soon as what they refer to is there."""

import threading
from contextlib import suppress

import psycopg
import structlog
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue.tokenizing import Tokenizers
from clew_lab.jobs.notify import QUEUE, Listener
from clew_lab.jobs.release import due, release
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_scheduler.loop import DATABASE_ERRORS
from clew_spec.errors import Unavailable

log = structlog.get_logger("clew_scheduler.release")


def release_due(sessions: sessionmaker[Session], tokenizers: Tokenizers, settings: Settings) -> int:
    """Release or end what is due, and what becomes due by that; returns how many. Raises `Unavailable`."""
    released = 0
    while True:
        with sessions() as session:
            found = due(session)
        if not found:
            return released
        for job_id in found:
            release(
                sessions,
                job_id,
                tokenizer_of=tokenizers.get,
                import_roots=settings.import_roots,
                code_version=settings.code_version,
            )
            released += 1
            log.info("released", job_id=job_id)


def release_until(stop: threading.Event, sessions: sessionmaker[Session], store: Store, settings: Settings) -> None:
    """In a thread of its own, for tokenizers come from the store: a slow one never holds up a dispatch."""
    tokenizers = Tokenizers(store.read)
    while not stop.is_set():
        try:
            listener = Listener(settings.database_url.get_secret_value(), QUEUE)
            try:
                while not stop.is_set():
                    release_due(sessions, tokenizers, settings)
                    listener.wait(settings.poll_s)
            finally:
                with suppress(psycopg.Error):
                    listener.close()
        except (*DATABASE_ERRORS, Unavailable) as error:
            log.warning("release_put_off", error=type(error).__name__)
            stop.wait(settings.poll_s)

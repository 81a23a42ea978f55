"""Postgres' own bells: who listens looks at once; who missed one looks a moment later."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import libpq_url

QUEUE: Final = "clew_queue"
"""Something can be dispatched, or a slot came free. No payload."""
JOBS: Final = "clew_jobs"
"""A job has new events; the payload is its id."""

_NOTIFY = text("select pg_notify(:channel, :payload)")


def notify_queue(session: Session) -> None:
    """Heard when the transaction commits; Postgres folds equal ones into one."""
    session.execute(_NOTIFY, {"channel": QUEUE, "payload": ""})


def notify_job(session: Session, job_id: UUID) -> None:
    session.execute(_NOTIFY, {"channel": JOBS, "payload": str(job_id)})


class Listener:
    """One connection that listens on one channel. Raises `psycopg.OperationalError` when it is lost."""

    def __init__(self, url: str, channel: str) -> None:
        self._connection = psycopg.connect(libpq_url(url), autocommit=True, connect_timeout=5)
        self._connection.execute(f'LISTEN "{channel}"')

    def wait(self, seconds: float) -> list[str]:
        """Payloads that arrived; returns with the first of them, or empty-handed after `seconds`."""
        return [heard.payload for heard in self._heard(seconds)]

    def _heard(self, seconds: float) -> Iterator[psycopg.Notify]:
        return self._connection.notifies(timeout=seconds, stop_after=1)

    def close(self) -> None:
        self._connection.close()

"""Connections to Postgres."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

T = TypeVar("T")


def make_engine(url: str, *, statement_s: float = 30, connect_s: float = 5, **options: Any) -> Engine:
    """An engine that never waits for ever: not for a connection, a lock, a statement or a vanished peer."""
    milliseconds = int(statement_s * 1000)
    return create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(1, round(connect_s)),
            "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds}"
            " -c timezone=UTC",
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
        **options,
    )


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """`with sessions.begin() as session:` is one transaction."""
    return sessionmaker(engine, expire_on_commit=False)


def once(session: Session, key: Hashable, look: Callable[[], T]) -> T:
    """What `look` finds, looked for once a session: the jobs of a sweep all refer to the same few things."""
    found: dict[Hashable, Any] = session.info.setdefault("once", {})
    if key not in found:
        found[key] = look()
    known: T = found[key]
    return known


def libpq_url(url: str) -> str:
    """The same database as psycopg itself names it, without SQLAlchemy's driver."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+', 1)[0]}://{rest}"

"""Connections to Postgres."""

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker


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


def libpq_url(url: str) -> str:
    """The same database as psycopg itself names it, without SQLAlchemy's driver."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+', 1)[0]}://{rest}"

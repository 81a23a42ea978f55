"""What a running API holds on to: the engine, the store, the tokenizers and the bell."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Self

import redis
from anyio import CapacityLimiter
from fastapi import Depends, Request
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from clew_api.bell import Bell
from clew_lab.catalogue import passwords
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.tokenizing import Tokenizers
from clew_lab.settings import Settings
from clew_lab.storage import Store

POOL = 20
"""Database connections: half as many as there are threads, since most requests hold one only for moments."""


@dataclass(frozen=True)
class Lab:
    settings: Settings
    engine: Engine
    sessions: sessionmaker[Session]
    single: sessionmaker[Session]
    """As `sessions`, without a transaction: see `statement`."""
    store: Store
    tokenizers: Tokenizers
    redis: "redis.Redis"
    bell: Bell = field(default_factory=Bell)
    parsing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    """Of threads that parse a large body: several would only take the interpreter from each other."""
    hashing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(passwords.AT_ONCE))
    """Of threads that hash passwords. Who waits for one holds none, so that others are answered meanwhile."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Asks no server yet."""
        engine = make_engine(
            settings.database_url.get_secret_value(), pool_size=POOL, max_overflow=POOL, pool_timeout=10
        )
        store = Store.of(settings)
        return cls(
            settings=settings,
            engine=engine,
            sessions=session_factory(engine),
            single=session_factory(engine.execution_options(isolation_level="AUTOCOMMIT")),
            store=store,
            tokenizers=Tokenizers(store.read),
            redis=redis.Redis.from_url(
                settings.redis_url.get_secret_value(),
                socket_timeout=2,
                socket_connect_timeout=2,
                retry=Retry(NoBackoff(), 0),  # only its health is asked, and that is to be known at once
            ),
        )

    def transaction(self) -> AbstractContextManager[Session]:
        """Commits at the end, rolls back on an error."""
        return self.sessions.begin()

    def statement(self) -> AbstractContextManager[Session]:
        """For one statement that stands alone: it is sent without BEGIN and COMMIT around it."""
        return self.single()

    def close(self) -> None:
        self.redis.close()
        self.engine.dispose()


async def _lab(request: Request) -> Lab:
    """Not in a thread, as none of the dependencies that wait for nothing."""
    lab: Lab = request.app.state.lab
    return lab


LabDep = Annotated[Lab, Depends(_lab)]

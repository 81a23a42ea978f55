"""Who is there to work. A worker is one slot, alive while its beat is fresh."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Worker
from clew_lab.jobs.notify import notify_queue
from clew_spec.errors import Conflict, NotFound
from clew_spec.jobs import Pool


def register(
    session: Session, name: str, pool: Pool, *, device: str, memory_bytes: int, ram_bytes: int = 0, cpus: int = 0
) -> UUID:
    """Announce a worker. One that comes back under its name keeps its row, and is not draining any more.

    memory_bytes: of its GPU, else of the machine, whose are `ram_bytes` and `cpus`; 0 where it cannot be told.
    The row is its newest holder's: whoever held it before finds another `started_at` there, and lets go.
    """
    described = {
        "pool": pool,
        "device": device,
        "gpus": int(device.startswith("cuda")),
        "memory_bytes": memory_bytes,
        "ram_bytes": ram_bytes,
        "cpus": cpus,
    }
    fresh = {"draining": False, "started_at": func.clock_timestamp(), "beat_at": func.now()}
    statement = insert(Worker).values(name=name, **described)
    id = session.scalars(
        statement.on_conflict_do_update(index_elements=[Worker.name], set_={**described, **fresh}).returning(Worker.id)
    ).one()
    notify_queue(session)
    return id


def beat(session: Session, worker_id: UUID, since: datetime) -> bool:
    """Say that the worker lives; returns whether it is asked to take no more work.

    since: the row's `started_at` when it was registered. Raises `Conflict` where another took the name after that.
    """
    mine = update(Worker).where(Worker.id == worker_id, Worker.started_at == since)
    asked = session.scalars(mine.values(beat_at=func.now()).returning(Worker.draining)).one_or_none()
    if asked is None:
        raise Conflict("another worker has registered under the same name")
    return asked


def drain(session: Session, worker_id: UUID, since: datetime | None = None) -> None:
    """Give the worker no more work: it gives back what it has, and ends.

    since: as for `beat`; without it, whoever holds the row now is meant.
    """
    statement = update(Worker).where(Worker.id == worker_id)
    if since is not None:
        statement = statement.where(Worker.started_at == since)
    session.execute(statement.values(draining=True))


def drain_named(session: Session, actor: Actor, name: str, *, request_id: str | None = None) -> None:
    """Ask the worker of that name to drain; it learns of it with its next beat. Asking again changes nothing.

    Raises `NotFound`.
    """
    worker = session.scalar(select(Worker).where(Worker.name == name))
    if worker is None:
        raise NotFound(f"no worker {name!r}", hint="list them with GET /api/v1/workers")
    drain(session, worker.id, worker.started_at)
    audit.record(session, actor, "worker.drain_requested", name, request_id=request_id)

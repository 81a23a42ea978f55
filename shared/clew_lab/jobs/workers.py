"""Who is there to work. A worker is one slot, alive while its beat is fresh."""

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Worker
from clew_lab.jobs.notify import notify_queue
from clew_spec.jobs import Pool


def register(session: Session, name: str, pool: Pool, *, device: str, memory_bytes: int) -> UUID:
    """Announce a worker. One that comes back under its name keeps its row."""
    described = {"pool": pool, "device": device, "memory_bytes": memory_bytes}
    fresh = {"draining": False, "started_at": func.now(), "beat_at": func.now()}
    statement = insert(Worker).values(name=name, **described)
    id = session.scalars(
        statement.on_conflict_do_update(index_elements=[Worker.name], set_={**described, **fresh}).returning(Worker.id)
    ).one()
    notify_queue(session)
    return id


def beat(session: Session, worker_id: UUID) -> bool:
    """Say that the worker lives; returns whether it is asked to take no more work."""
    statement = update(Worker).where(Worker.id == worker_id).values(beat_at=func.now()).returning(Worker.draining)
    return session.scalars(statement).one()


def drain(session: Session, worker_id: UUID) -> None:
    """Give the worker no more work."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(draining=True))

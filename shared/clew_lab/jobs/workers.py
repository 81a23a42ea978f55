"""Who is there to work. A worker is one slot, alive while its beat is fresh."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Worker
from clew_lab.jobs.notify import notify_queue
from clew_spec.errors import Conflict, NotFound
from clew_spec.jobs import Pool

LONGEST_REST_S = 3600.0
ANSWERED: dict[str, Any] = {"unanswered": 0, "rests_until": None}


def register(
    session: Session,
    name: str,
    pool: Pool,
    *,
    device: str,
    memory_bytes: int,
    ram_bytes: int = 0,
    cpus: int = 0,
    machine: str | None = None,
    gpu_uuid: str | None = None,
) -> UUID:
    """Announce a worker. One that comes back under its name keeps its row, and is not draining any more.

    memory_bytes: of its GPU, else of the machine, whose are `ram_bytes` and `cpus`; 0 where it cannot be told.
    machine, gpu_uuid: what it shares with all others that say the same.
    The row is its newest holder's: whoever held it before finds another `started_at` there, and lets go.
    """
    described = {
        "pool": pool,
        "device": device,
        "gpus": int(device.startswith("cuda")),
        "memory_bytes": memory_bytes,
        "ram_bytes": ram_bytes,
        "cpus": cpus,
        "machine": machine,
        "gpu_uuid": gpu_uuid,
    }
    fresh = {
        "draining": False,
        "reserved_for": None,
        **ANSWERED,
        "started_at": func.clock_timestamp(),
        "beat_at": func.now(),
    }
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


def answered(session: Session, worker_id: UUID) -> None:
    """It heard a bell, be it a stale one: it is given jobs as any other again."""
    silent = update(Worker).where(Worker.id == worker_id, Worker.unanswered != 0)
    if session.scalars(silent.values(ANSWERED).returning(Worker.id)).first() is not None:
        notify_queue(session)


_UNANSWERED = text("""
    with silent as (select id, unanswered + 1 as bells from workers where id = any(:ids) for no key update skip locked)
    update workers set unanswered = silent.bells, rests_until = case when silent.bells > 0 then
        now() + make_interval(secs => least(:most_s, :rest_s * 2.0 ^ least(silent.bells - 1, 30))) end
    from silent where workers.id = silent.id
""")


def unanswered(session: Session, worker_ids: Sequence[UUID], *, rest_s: float) -> None:
    """Each left a bell unanswered: it is given nothing for `rest_s`, twice as long after each further bell.

    A worker that beats may be deaf to Redis; and were it given the same job again and again, that would never run.
    """
    if worker_ids:
        asked = {"ids": list(worker_ids), "rest_s": rest_s, "most_s": max(rest_s, LONGEST_REST_S)}
        session.execute(_UNANSWERED, asked)


def not_rung(session: Session, names: Sequence[str]) -> None:
    """Bells that Redis did not take will be unanswered, and that is not the workers' fault: one each is let pass."""
    session.execute(update(Worker).where(Worker.name.in_(names)).values(unanswered=Worker.unanswered - 1))


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

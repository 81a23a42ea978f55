"""The lab at a glance: who works in it, and who gets how much of it."""

from typing import get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clew_lab.catalogue import queries
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Job, Project, Queue, Worker
from clew_lab.jobs import share
from clew_lab.jobs.moves import HELD
from clew_lab.jobs.quotas import stored_bytes
from clew_spec.api import LabView, PoolView, ProjectShare
from clew_spec.jobs import Pool


def lab_view(session: Session, actor: Actor, *, alive_s: float) -> LabView:
    """Shares are everybody's, so that one's own can be understood; quotas and what is stored are one's own.

    alive_s: how old a live worker's beat may be.
    """
    queues = {queue.pool: queue for queue in session.scalars(select(Queue))}
    waiting: dict[str, int] = {}
    for queue in queues.values():
        for project_id, jobs in queue.waiting.items():
            waiting[project_id] = waiting.get(project_id, 0) + jobs
    return LabView(
        workers=queries.list_workers(session, actor),
        pools=[_pool(session, pool, queues.get(pool), alive_s) for pool in get_args(Pool)],
        projects=_shares(session, actor, waiting),
    )


def _pool(session: Session, pool: Pool, queue: Queue | None, alive_s: float) -> PoolView:
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, alive_s)
    held = select(Job.worker_id).where(Job.state.in_([state.value for state in HELD]))
    live = select(func.count(), func.count().filter(Worker.id.in_(held))).where(
        Worker.pool == pool, Worker.beat_at > since, ~Worker.draining
    )
    workers, busy = session.execute(live).one()
    waiting = sum(queue.waiting.values()) if queue else 0
    return PoolView(pool=pool, workers=workers, busy=busy, waiting=waiting, at=queue and queue.at)


def _shares(session: Session, actor: Actor, waiting: dict[str, int]) -> list[ProjectShare]:
    accounts = share.accounts(session)
    weights = sum(account.weight for account in accounts.values())
    used = sum(account.used for account in accounts.values())
    most = session.scalar(select(Project.max_stored_bytes).where(Project.id == actor.project_id))
    return [
        ProjectShare(
            project=account.project,
            weight=account.weight,
            share=account.weight / weights,
            used_s=account.used,
            used_share=account.used / used if used else 0.0,
            in_flight=account.in_flight,
            waiting=waiting.get(str(id), 0),
            max_in_flight=account.max_in_flight if id == actor.project_id else None,
            stored_bytes=stored_bytes(session, id) if id == actor.project_id else None,
            max_stored_bytes=most if id == actor.project_id else None,
        )
        for id, account in accounts.items()
    ]

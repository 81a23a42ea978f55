"""Sweeps and pipelines, as the API shows them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from clew_lab.catalogue import scope, views
from clew_lab.catalogue.pages import page
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Batch, Job
from clew_spec.api import Page
from clew_spec.batch_views import BatchView
from clew_spec.batches import BatchKind
from clew_spec.jobs import JobState


def list_batches(
    session: Session, actor: Actor, *, kind: BatchKind | None = None, cursor: str | None = None, limit: int = 50
) -> Page[BatchView]:
    """Newest first."""
    statement = scope.batches(actor)
    if kind is not None:
        statement = statement.where(Batch.kind == kind)
    shown = page(session, statement, Batch, lambda row: _view(row[0], actor, {}), cursor=cursor, limit=limit)
    states = _states(session, [batch.id for batch in shown.items])
    items = [batch.model_copy(update={"states": states.get(batch.id, {})}) for batch in shown.items]
    return Page[BatchView](items=items, next_cursor=shown.next_cursor)


def batch_view(session: Session, actor: Actor, batch: Batch) -> BatchView:
    return _view(batch, actor, _states(session, [batch.id]).get(batch.id, {}))


def _view(batch: Batch, actor: Actor, states: dict[JobState, int]) -> BatchView:
    return views.batch_view(batch, actor.project_name, states)


def _states(session: Session, ids: Sequence[UUID]) -> dict[UUID, dict[JobState, int]]:
    """How many jobs of each are in each state; of one that was tried again, only what tries it again counts."""
    again = aliased(Job)
    counted = (
        select(Job.batch_id, Job.state, func.count())
        .where(Job.batch_id.in_(ids), ~select(again.id).where(again.retry_of == Job.id).exists())
        .group_by(Job.batch_id, Job.state)
    )
    found: dict[UUID, dict[JobState, int]] = {}
    for id, state, count in session.execute(counted):
        if id is not None:
            found.setdefault(id, {})[JobState(state)] = count
    return found

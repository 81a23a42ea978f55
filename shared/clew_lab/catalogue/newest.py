"""Which jobs a list shows, found by as many looks at an index as there are states and kinds, however long the past."""

from collections.abc import Sequence
from typing import Any, get_args
from uuid import UUID

from sqlalchemy import ARRAY, TEXT, ColumnElement, Select, cast, func, literal_column, select, true, union
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import TableValuedAlias

from clew_lab.catalogue.scope import Actor, submitted_by
from clew_lab.catalogue.tables import Job
from clew_spec.jobs import JobKind, JobState


def newest_jobs(
    actor: Actor,
    *,
    states: Sequence[JobState],
    kinds: Sequence[JobKind],
    before: UUID | None,
    limit: int,
) -> Select[Any]:
    """Ids of the newest `limit` jobs that the actor may see. before: only older than this.

    What is one's own and what is shown to the lab are looked for apart: no index has both in one order.
    """
    job = aliased(Job)
    mine = _newest(job.project_id == actor.project_id, job, states, kinds, before, limit)
    shown = _newest(job.visibility == literal_column("'lab'"), job, states, kinds, before, limit)
    found = union(mine, shown).subquery().c.id
    return select(found).order_by(found.desc()).limit(limit)


def newest_of_person(
    actor: Actor,
    user: str,
    *,
    states: Sequence[JobState],
    kinds: Sequence[JobKind],
    before: UUID | None,
    limit: int,
) -> Select[Any]:
    """Ids of the newest `limit` jobs that a person submitted in the actor's project. user: as `submitted_by`."""
    job = aliased(Job)
    found = select(job.id).where(submitted_by(actor, job, user))
    if states:
        found = found.where(job.state.in_(states))
    if kinds:
        found = found.where(job.kind.in_(kinds))
    return _first(found, job, before, limit)


def _newest(
    visible: ColumnElement[bool],
    job: Any,
    states: Sequence[JobState],
    kinds: Sequence[JobKind],
    before: UUID | None,
    limit: int,
) -> Select[Any]:
    of_states = _values("state", [state.value for state in states or JobState])
    of_kinds = _values("kind", kinds or get_args(JobKind))
    of_pair = select(job.id).where(visible, job.state == of_states.c.state, job.kind == of_kinds.c.kind)
    newest = _first(of_pair, job, before, limit).lateral()
    return select(newest.c.id).select_from(of_states).join(of_kinds, true()).join(newest, true())


def _first(found: Select[Any], job: Any, before: UUID | None, limit: int) -> Select[Any]:
    """The newest of them, in the order of the indexes that are made for this."""
    age = func.uuid_send(job.id)
    if before is not None:
        found = found.where(age < func.uuid_send(before))
    return found.order_by(age.desc()).limit(limit)


def _values(name: str, values: Sequence[str]) -> TableValuedAlias:
    return func.unnest(cast(list(values), ARRAY(TEXT))).table_valued(name).render_derived(name=f"of_{name}s")

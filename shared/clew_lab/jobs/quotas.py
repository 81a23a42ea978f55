"""How much a project may have: jobs on workers at once, and bytes of published files and uploads.

What its jobs that have not ended are expected to publish counts as stored: each is accepted only if all of them may
publish what they are expected to.
"""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue import uploads
from clew_lab.catalogue.engine import once
from clew_lab.catalogue.tables import Artifact, Job
from clew_spec.errors import Conflict
from clew_spec.units import size

LARGEST = 3
"""Jobs that are named where their files are too much."""
_LOCK = 1_668_048_750
"""First key of the advisory lock of a project's space; the second is made of the project's id."""

_QUOTA = text("""
    select name, max_stored_bytes,
           case when max_stored_bytes is not null
                then cast(pg_advisory_xact_lock(:lock, hashtext(cast(id as text))) as text) end
    from projects where id = :id
""")
"""With the lock, so that a project without a quota waits for nothing."""

_HELD = text("""
    select (select coalesce(sum(size), 0) from artifacts where project_id = :id)
           + (select coalesce(sum(size), 0) from uploads where project_id = :id and state <> 'deleted'),
           (select coalesce(sum(expected_bytes), 0) from jobs
            where project_id = :id and finished_at is null and expected_bytes > 0)
""")
"""At one moment: what a job publishes is never seen on neither side."""


class OverQuota(Conflict):
    code = "over-quota"
    title = "The project's quota is reached"


class _Held(NamedTuple):
    stored: int
    expected: int
    """Of jobs that have not ended."""

    @property
    def all(self) -> int:
        return self.stored + self.expected


@dataclass
class _Space:
    project: str
    most: int | None
    held: _Held | None = None
    """None until it is asked for. It may be too much, where jobs have ended since, and never too little."""

    def takes(self, more: int) -> bool:
        return self.most is None or (self.held is not None and self.held.all < self.most >= self.held.all + more)


def stored_bytes(session: Session, project_id: UUID) -> int:
    """Of all files that the project's jobs published, and of its uploads."""
    total = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.project_id == project_id)
    return int(session.scalars(total).one()) + uploads.stored_bytes(session, project_id)


def require_space(
    session: Session, project_id: UUID, adds: int, *, counted: int | None = None, what: str = "job"
) -> None:
    """That the project may store so many bytes more. To be called before they are written, in the same transaction.

    Until that ends, none other of the project gets here, where it has a quota: what is weighed is not weighed twice.

    Args:
        adds: 0 where it is not known; a project that is full takes nothing.
        counted: as much of it is held already, by a job that was accepted: that much it may store in any case.

    Raises `OverQuota`, with the numbers and what takes most.
    """
    if counted is not None and adds <= counted:
        return
    space = once(session, ("space", project_id), lambda: _space(session, project_id))
    more = adds - (counted or 0)
    if not space.takes(more):
        space.held = _Held(*map(int, session.execute(_HELD, {"id": project_id}).one()))
    if not space.takes(more):
        raise _over(session, project_id, space, adds, what)
    if space.held is not None:
        space.held = space.held._replace(expected=space.held.expected + more)


def _space(session: Session, project_id: UUID) -> _Space:
    project, most, _ = session.execute(_QUOTA, {"id": project_id, "lock": _LOCK}).one()
    return _Space(project, most)


def _over(session: Session, project_id: UUID, space: _Space, adds: int, what: str) -> OverQuota:
    assert space.most is not None
    assert space.held is not None
    most, stored, expected = size(space.most), size(space.held.stored), size(space.held.expected)
    waits = f", its jobs that have not ended will add about {expected}" if space.held.expected else ""
    more = f", and this {what} adds about {size(adds)}" if adds else ""
    return OverQuota(
        f"the project {space.project} stores {stored}{waits}{more}; its quota is {most}",
        expected=f"{most} at most",
        hint=f"delete what is not needed any more{_largest(session, project_id)}, or ask for a larger quota",
    )


def _largest(session: Session, project_id: UUID) -> str:
    total = func.sum(Artifact.size)
    found = session.execute(
        select(Job.kind, Job.name, total)
        .join(Job, Job.id == Artifact.job_id)
        .where(Artifact.project_id == project_id)
        .group_by(Job.id)
        .order_by(total.desc())
        .limit(LARGEST)
    ).all()
    named = ", ".join(f"{kind} {name} {size(int(held))}" for kind, name, held in found)
    return f" (most is held by {named})" if named else ""

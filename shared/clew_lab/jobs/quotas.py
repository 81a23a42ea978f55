"""How much a project may have: jobs on workers at once, and bytes of published files."""

from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from clew_lab.catalogue import uploads
from clew_lab.catalogue.engine import once
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Artifact, Job, Project
from clew_spec.errors import Conflict
from clew_spec.units import size

LARGEST = 3
"""Jobs that are named where their files are too much."""

_QUOTA = select(Project.max_stored_bytes).where(Project.id == bindparam("of_project"))


def stored_bytes(session: Session, project_id: UUID) -> int:
    """Of all files that the project's jobs published, and of its uploads."""
    total = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.project_id == project_id)
    return int(session.scalars(total).one()) + uploads.stored_bytes(session, project_id)


def require_space(
    session: Session, actor: Actor, published_bytes: int, *, what: str = "job", lock: bool = False
) -> None:
    """Raises `Conflict`, with the numbers and what takes most, where the project may not store that much more.

    lock: until the transaction ends, no other one of this project gets here: what is weighed is not weighed twice.
    """
    id = actor.project_id
    if lock:
        most = session.scalar(_QUOTA.with_for_update(), {"of_project": id})
    else:
        most = once(session, ("quota", id), lambda: session.scalar(_QUOTA, {"of_project": id}))
    if most is None:
        return
    stored = stored_bytes(session, id) if lock else once(session, ("stored", id), lambda: stored_bytes(session, id))
    if stored + published_bytes <= most and stored < most:
        return
    adds = f", and this {what} adds about {size(published_bytes)}" if published_bytes else ""
    raise Conflict(
        f"the project {actor.project_name} stores {size(stored)}{adds}; its quota is {size(most)}",
        expected=f"{size(most)} at most",
        hint=f"delete what is not needed any more{_largest(session, id)}, or ask for a larger quota",
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

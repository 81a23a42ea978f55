"""Who did what. A row is written in the transaction that does it; none is ever changed."""

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from clew_lab.catalogue.scope import NOWHERE, Actor, may_audit
from clew_lab.catalogue.tables import ApiKey, Audit, Project, User
from clew_spec.api import AuditView, Page


def record(
    session: Session,
    actor: Actor | None,
    action: str,
    target: UUID | str,
    *,
    project_id: UUID | None = None,
    request_id: str | None = None,
    **data: Any,
) -> None:
    """`action` in past tense, such as `key.created`. Without a project it was done to the lab itself."""
    session.add(
        Audit(
            project_id=None if project_id == NOWHERE else project_id,
            key_id=actor and actor.key_id,
            user_id=actor and actor.user_id,
            action=action,
            target=str(target),
            request_id=request_id,
            data=data or None,
        )
    )


def list_audit(session: Session, actor: Actor, *, before: int | None = None, limit: int = 50) -> Page[AuditView]:
    """Newest first."""
    statement = (
        select(Audit, Project.name, User.name, ApiKey.name)
        .outerjoin(Project, Project.id == Audit.project_id)
        .outerjoin(User, User.id == Audit.user_id)
        .outerjoin(ApiKey, ApiKey.id == Audit.key_id)
        .where(may_audit(actor))
        .order_by(Audit.id.desc())
        .limit(limit + 1)
    )
    if before is not None:
        statement = statement.where(Audit.id < before)
    rows = session.execute(statement).all()
    items = [
        AuditView(
            id=row.id,
            at=row.at,
            project=project,
            user=user,
            key=key,
            action=row.action,
            target=row.target,
            request_id=row.request_id,
            data=row.data,
        )
        for row, project, user, key in rows[:limit]
    ]
    return Page[AuditView](items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)

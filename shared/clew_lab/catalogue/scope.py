"""Who may see what. Every query of a tenant's table goes through here."""

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import ApiKey, Audit, Batch, Coder, Dataset, Graph, Job, Model, Project, Upload, User
from clew_spec.errors import Forbidden, NotFound
from clew_spec.people import Permission, Role

Visible = TypeVar("Visible", Job, Model, Dataset, Coder, Graph)

ME = "me"
"""Stands for the actor where the name of a person is asked for."""

NOWHERE = UUID(int=0)
"""The project of who acts in none: nothing belongs to it."""


@dataclass(frozen=True)
class Actor:
    """Who is asking, and the one project it acts in."""

    project_id: UUID
    project_name: str
    key_id: UUID | None
    key_name: str | None
    user_id: UUID | None = None
    user_name: str | None = None
    role: Role | None = None
    permissions: frozenset[Permission] = frozenset()
    limited: bool = True
    """Whether the project has a quota of stored bytes; also where that was not asked."""

    def may(self, *permissions: Permission) -> bool:
        """Whether it has one of them."""
        return not self.permissions.isdisjoint(permissions)

    def require(self, *permissions: Permission) -> None:
        """Raises `Forbidden` unless it has one of them."""
        if not self.may(*permissions):
            asked = " or ".join(f"`{permission}`" for permission in permissions)
            where = f"in project {self.project_name}" if self.project_id != NOWHERE else "in any project"
            who = f"as {self.role} " if self.role else ""
            raise Forbidden(
                f"you may not do this {who}{where}",
                expected=f"the permission {asked}",
                hint="GET /api/v1/session says what you may; the project's admins give roles, and its owner a key",
            )

    def submitted(self, thing: Job | Upload) -> bool:
        """Whether it is its own: of the same person, else of the same key."""
        if thing.user_id is not None:
            return thing.user_id == self.user_id
        return thing.created_by is not None and thing.created_by == self.key_id


def may_read(actor: Actor | ColumnElement[UUID], table: type[Any]) -> ColumnElement[bool]:
    """Rows of the actor's own project, and what others show to the whole lab.

    actor: or, in a statement that is built for all of them, the parameter that will be the project.
    """
    own = actor.project_id if isinstance(actor, Actor) else actor
    return or_(table.project_id == own, table.visibility == "lab")


def readable(actor: Actor, table: type[Visible]) -> Select[Visible]:
    return select(table).where(may_read(actor, table))


def owned(actor: Actor, table: type[Visible]) -> Select[Visible]:
    """Rows the actor may change: those of its own project alone."""
    return select(table).where(table.project_id == actor.project_id)


def submitted_by(actor: Actor, job: Any, user: str) -> ColumnElement[bool]:
    """Jobs of the actor's project that the person of this name submitted; `me`: as `Actor.submitted`."""
    own = job.project_id == actor.project_id
    if user != ME:
        return and_(own, job.user_id == select(User.id).where(User.name == user).scalar_subquery())
    if actor.user_id is not None:
        return and_(own, job.user_id == actor.user_id)
    return and_(own, job.user_id.is_(None), job.created_by == actor.key_id)


def get(session: Session, actor: Actor, table: type[Visible], id: UUID, *, write: bool = False) -> Visible:
    """The row, or `NotFound`, which does not tell a foreign row from none."""
    statement = owned(actor, table) if write else readable(actor, table)
    row = session.scalar(statement.where(table.id == id))
    if row is None:
        raise NotFound(f"no {table.__tablename__[:-1]} {id}", hint=f"list them with GET /api/v1/{table.__tablename__}")
    return row


def batches(actor: Actor) -> Select[Batch]:
    """Sweeps and pipelines of the actor's own project: others see such of their jobs as are shown, and no more."""
    return select(Batch).where(Batch.project_id == actor.project_id)


def get_batch(session: Session, actor: Actor, id: UUID) -> Batch:
    row = session.scalar(batches(actor).where(Batch.id == id))
    if row is None:
        raise NotFound(f"no sweep or pipeline {id}", hint="list them with GET /api/v1/batches")
    return row


def batch_of_idempotency_key(session: Session, actor: Actor, idempotency_key: str | None) -> Batch | None:
    return session.scalar(batches(actor).where(Batch.idempotency_key == idempotency_key))


def may_reach(actor: Actor) -> ColumnElement[bool]:
    """The project the actor acts in; all of them, to who manages them."""
    if actor.may(Permission.PROJECT_MANAGE):
        return Project.id.is_not(None)
    return Project.id == actor.project_id


def get_project(session: Session, actor: Actor, id: UUID, *, lock: bool = False) -> Project:
    statement = select(Project).where(may_reach(actor), Project.id == id)
    row = session.scalar(statement.with_for_update() if lock else statement)
    if row is None:
        raise NotFound(f"no project {id}", hint="list them with GET /api/v1/projects")
    return row


def may_see_key(actor: Actor) -> ColumnElement[bool]:
    """Keys of the project at hand: the actor's own; all, to who manages them."""
    here = ApiKey.project_id == actor.project_id
    if actor.may(Permission.KEY_MANAGE):
        return here
    return and_(here, ApiKey.user_id.is_not(None), ApiKey.user_id == actor.user_id)


def get_key(session: Session, actor: Actor, id: UUID) -> ApiKey:
    """Locked."""
    row = session.scalar(select(ApiKey).where(may_see_key(actor), ApiKey.id == id).with_for_update())
    if row is None:
        raise NotFound(f"no key {id}", hint="list them with GET /api/v1/keys")
    return row


def may_see_upload(actor: Actor) -> ColumnElement[bool]:
    """The project's own alone: an upload is on its way to a job, and what the job makes of it can be shown."""
    return and_(Upload.project_id == actor.project_id, Upload.state != "deleted", Upload.expires_at > func.now())


def may_audit(actor: Actor) -> ColumnElement[bool]:
    """What was done in the project at hand, and to the lab itself, as far as the actor may know each."""
    own = Audit.project_id == actor.project_id if actor.may(Permission.AUDIT_READ) else false()
    lab = Audit.project_id.is_(None) if actor.may(Permission.LAB_AUDIT) else false()
    return or_(own, lab)

"""Who may see what. Every query of a tenant's table goes through here."""

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Coder, Dataset, Graph, Job, Model
from clew_spec.errors import NotFound

Visible = TypeVar("Visible", Job, Model, Dataset, Coder, Graph)


@dataclass(frozen=True)
class Actor:
    """Who is asking: the key, and the one project it belongs to."""

    project_id: UUID
    project_name: str
    key_id: UUID
    key_name: str
    admin: bool = False


def may_read(actor: Actor, table: type[Any]) -> ColumnElement[bool]:
    """Rows of the actor's own project, and what others show to the whole lab."""
    return or_(table.project_id == actor.project_id, table.visibility == "lab")


def readable(actor: Actor, table: type[Visible]) -> Select[Visible]:
    return select(table).where(may_read(actor, table))


def owned(actor: Actor, table: type[Visible]) -> Select[Visible]:
    """Rows the actor may change: those of its own project alone."""
    return select(table).where(table.project_id == actor.project_id)


def get(session: Session, actor: Actor, table: type[Visible], id: UUID, *, write: bool = False) -> Visible:
    """The row, or `NotFound`, which does not tell a foreign row from none."""
    statement = owned(actor, table) if write else readable(actor, table)
    row = session.scalar(statement.where(table.id == id))
    if row is None:
        raise NotFound(f"no {table.__tablename__[:-1]} {id}", hint=f"list them with GET /api/v1/{table.__tablename__}")
    return row

"""The tables of jobs that belong together: what came in one request, and what waits for what."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from clew_lab.catalogue.base import Base, new_id, now


class Batch(Base):
    """Jobs that were asked for in one request."""

    __tablename__ = "batches"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        UniqueConstraint("project_id", "idempotency_key"),
        CheckConstraint("kind in ('sweep', 'pipeline')", name="kind"),
    )

    id: Mapped[UUID] = new_id()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str]
    name: Mapped[str]
    size: Mapped[int] = mapped_column(Integer)
    """How many jobs."""
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = now()


class Dependency(Base):
    """A job refers to what another makes, and waits until it has succeeded."""

    __tablename__ = "dependencies"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),
        ForeignKeyConstraint(["project_id", "on_id"], ["jobs.project_id", "jobs.id"]),
        Index("ix_dependencies_on", "on_id"),
    )

    project_id: Mapped[UUID]
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_id: Mapped[UUID] = mapped_column(primary_key=True)

"""The tables by which it is said whose turn it is, and where waiting jobs stand."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Float, ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from clew_lab.catalogue.base import Base, Json, now


class Usage(Base):
    """What ended attempts of a project used. Halves are due since `at`; see `jobs.share`."""

    __tablename__ = "usage"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    seconds: Mapped[float] = mapped_column(Float(53))
    at: Mapped[datetime] = now()


class Standing(Base):
    """Where a waiting job stands; written by the scheduler alone, and made anew where a crash has emptied it."""

    __tablename__ = "standings"
    # Rewritten again and again: room on each page for the next version of a row, and no log.
    __table_args__ = ({"prefixes": ["UNLOGGED"], "postgresql_with": {"fillfactor": 50}},)

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    starts_at: Mapped[datetime | None]
    cause: Mapped[str]
    data: Mapped[Json | None]


class Queue(Base):
    """What the scheduler saw of a pool when it looked last: `standings` are of then."""

    __tablename__ = "queues"

    pool: Mapped[str] = mapped_column(primary_key=True)
    waiting: Mapped[Json]
    """Jobs by project."""
    at: Mapped[datetime]

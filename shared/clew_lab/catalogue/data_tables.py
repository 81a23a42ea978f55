"""The tables of what projects bring along: files on their way in, and secrets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from clew_lab.catalogue.base import Base, new_id, now


class Upload(Base):
    """Files that one request announced. Jobs see it once it is complete, and until it expires."""

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        CheckConstraint("state in ('open', 'complete', 'deleted')", name="state"),
        Index(
            "ix_uploads_content",
            *("project_id", "digest"),
            unique=True,
            postgresql_where=text("state <> 'deleted'"),
        ),
        Index("ix_uploads_name", "project_id", "name", text("id desc")),
        Index("ix_uploads_expiry", "expires_at"),
    )

    id: Mapped[UUID] = new_id()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    digest: Mapped[str]
    """sha256 over its name and the names, sizes and sha256 of its files: the same again is the same upload."""
    size: Mapped[int]
    """Bytes of all files, as announced; they count from the first moment."""
    state: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = now()
    completed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    """It is swept after this, unless a job that has not ended needs it."""


class UploadedFile(Base):
    """A file of an upload. What a user calls it is no part of the key under which it lies."""

    __tablename__ = "upload_files"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "upload_id"], ["uploads.project_id", "uploads.id"], ondelete="cascade"),
    )

    project_id: Mapped[UUID]
    upload_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    """From 0, in the order of the request."""
    name: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    """As announced; whoever reads the file checks it."""
    multipart_id: Mapped[str | None]
    """Of the store's multipart upload, once a part was signed."""
    whole: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether its parts are joined, with the announced size."""


class Secret(Base):
    """A secret of a project, sealed; see `catalogue.secrets`."""

    __tablename__ = "secrets"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """Who set it."""
    set_at: Mapped[datetime] = now()

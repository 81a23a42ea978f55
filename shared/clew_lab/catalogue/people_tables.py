"""The tables of people: who they are, where they belong, and how they came in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from clew_lab.catalogue.base import Base, new_id, now


class User(Base):
    """A person. `name` never changes; without a password only their keys open the lab."""

    __tablename__ = "users"

    id: Mapped[UUID] = new_id()
    name: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    password: Mapped[str | None]
    """Argon2id."""
    admin: Mapped[bool] = mapped_column(server_default=text("false"))
    """Of the platform."""
    created_at: Mapped[datetime] = now()
    disabled_at: Mapped[datetime | None]


class Membership(Base):
    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint("role in ('viewer', 'member', 'maintainer', 'admin')", name="role"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = now()


class ApiKey(Base):
    """A key is shown once and stored as an HMAC; `hint` is its last four characters."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = new_id()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """Its owner; null of a key that is the project's own."""
    name: Mapped[str]
    hint: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What it may do at most. Null: whatever its owner may; without an owner, nothing."""
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Session(Base):
    """A browser's session, opened by a key or by a password. The cookie's value is stored as an HMAC."""

    __tablename__ = "sessions"
    __table_args__ = (CheckConstraint("(key_id is null) <> (user_id is null)", name="opened_by_one"),)

    id: Mapped[UUID] = new_id()
    key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"), index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    """The one its person acts in; a key has its own."""
    digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SignInAttempt(Base):
    """A password that was tried and was not right, or is being tried."""

    __tablename__ = "sign_in_attempts"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    name: Mapped[str]
    address: Mapped[str]

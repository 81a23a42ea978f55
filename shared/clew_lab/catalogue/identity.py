"""Whom a key or a cookie speaks for: both are traded for an `Actor`, anew with each request."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Row, Select, and_, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.keys import SERVICE, digest, known, live, well_formed
from clew_lab.catalogue.scope import NOWHERE, Actor
from clew_lab.catalogue.tables import ApiKey, Membership, Project, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.api import ProjectRole
from clew_spec.errors import Forbidden, NotAuthenticated, NotFound
from clew_spec.people import PERMISSIONS, PLATFORM, Permission, Role

SESSION_LIFETIME = timedelta(days=30)
USED_RESOLUTION = timedelta(minutes=1)
"""`last_used_at` is written at most this often, so that reading stays reading."""


class Shown(NamedTuple):
    """A secret that was right when it was shown: of a key, or a person's password."""

    of: type[ApiKey] | type[User]
    id: UUID
    stored: str
    """What stood there of it, digest or hash."""


_REFUSED = "the key is not known, was revoked, or has expired"
_HINT = "send `Authorization: Bearer clew_...` with a key of this lab"


def actor_of_key(session: Session, plain: str, *, secret_key: SecretStr) -> Actor:
    """Whose key this is. Raises `NotAuthenticated` for a wrong, revoked or expired one, without saying which."""
    if not well_formed(plain):
        raise NotAuthenticated(_REFUSED, hint=_HINT)
    wanted = digest(secret_key, plain)
    found = session.execute(_BY_DIGEST, {"wanted": wanted}).one_or_none()
    if found is None or not hmac.compare_digest(found.digest, wanted):
        raise NotAuthenticated(_REFUSED, hint=_HINT)
    return _of_key(session, found)


def actor_of_cookie(session: Session, cookie: str, *, secret_key: SecretStr) -> tuple[Actor, datetime]:
    """Whose session this is and until when. It ends with its key or its person. Raises `NotAuthenticated`."""
    return _of_session(session, digest(secret_key, cookie))


def still(session: Session, credential: str, actor: Actor, permission: Permission) -> bool:
    """Whether what is stored under this digest, a key or a session, still opens that project and may do this there."""
    try:
        now = actor_now(session, credential)
    except NotAuthenticated:
        return False
    return now.may(permission) and now.project_id == actor.project_id


def actor_now(session: Session, credential: str) -> Actor:
    """Whom what is stored under this digest, a key or a session, speaks for now. Raises `NotAuthenticated`."""
    key = session.execute(_BY_DIGEST, {"wanted": credential}).one_or_none()
    return _of_key(session, key) if key is not None else _of_session(session, credential)[0]


def key_shown(session: Session, plain: str, *, secret_key: SecretStr) -> Shown:
    """Raises `NotAuthenticated` as `actor_of_key`."""
    key_id = actor_of_key(session, plain, secret_key=secret_key).key_id
    assert key_id is not None  # it is a key's actor
    return Shown(ApiKey, key_id, digest(secret_key, plain))


def password_of(session: Session, name: str) -> Shown | None:
    """The password to be shown by the person of this name, if they have one and may come in."""
    able = (User.password.is_not(None), User.disabled_at.is_(None))
    found = session.execute(select(User.id, User.password).where(User.name == name, *able)).one_or_none()
    return None if found is None else Shown(User, found.id, found.password)


def hold(session: Session, shown: Shown) -> ApiKey | User:
    """Whose secret it is, locked until the transaction ends, if what was shown still stands there.

    Who changes it meanwhile waits until then, and so closes whatever session was opened with it. Raises
    `NotAuthenticated`.
    """
    statement: Select[ApiKey] | Select[User]
    if shown.of is ApiKey:
        owner = select(ApiKey).outerjoin(User, User.id == ApiKey.user_id)
        statement = owner.where(ApiKey.id == shown.id, ApiKey.digest == shown.stored, *live())
    else:
        same = (User.id == shown.id, User.password == shown.stored)
        statement = select(User).where(*same, User.disabled_at.is_(None))
    row: ApiKey | User | None = session.scalar(statement.with_for_update(key_share=True, of=shown.of))
    if row is None:
        raise NotAuthenticated("the key or the password was changed just now", hint="sign in with the new one")
    return row


def open_session(
    session: Session, shown: Shown, *, secret_key: SecretStr, replaces: str | None = None
) -> tuple[BrowserSession, str]:
    """A browser session of a key or of a person, who begins in the project that they joined first.

    Returns the row and the cookie's value, always a fresh one: a cookie that was planted beforehand opens nothing.
    `replaces` is the cookie that came with the request; its session ends. The caller commits. Raises
    `NotAuthenticated` where what was shown is no longer right.
    """
    hold(session, shown)
    key_id, user_id = (shown.id, None) if shown.of is ApiKey else (None, shown.id)
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at < func.now()))
    if replaces is not None:
        close_session(session, replaces, secret_key=secret_key)
    cookie = secrets.token_urlsafe(32)
    first = select(Membership.project_id).where(Membership.user_id == user_id).order_by(Membership.created_at).limit(1)
    row = BrowserSession(
        key_id=key_id,
        user_id=user_id,
        project_id=session.scalar(first) if user_id else None,
        digest=digest(secret_key, cookie),
        expires_at=datetime.now(UTC) + SESSION_LIFETIME,
    )
    session.add(row)
    session.flush()
    return row, cookie


def close_session(session: Session, cookie: str, *, secret_key: SecretStr) -> bool:
    """Ends the session; returns whether there was one. The caller commits."""
    ended = delete(BrowserSession).where(BrowserSession.digest == digest(secret_key, cookie))
    return session.scalar(ended.returning(BrowserSession.id)) is not None


def close_sessions(session: Session, user_id: UUID, *, keep: str | None = None) -> None:
    """Those that the person's password opened, but for the one stored under `keep`."""
    theirs = delete(BrowserSession).where(BrowserSession.user_id == user_id)
    session.execute(theirs if keep is None else theirs.where(BrowserSession.digest != keep))


def act_in(session: Session, actor: Actor, session_digest: str | None, project: str) -> None:
    """The session's person acts in another project of theirs from now on.

    Raises `Forbidden` where a key speaks, which is one project's alone, and `NotFound` for a project of others.
    """
    theirs = select(Project.id).join(Membership, Membership.project_id == Project.id)
    found = session.scalar(theirs.where(Membership.user_id == actor.user_id, Project.name == project))
    if session_digest is None or actor.key_id is not None:
        raise Forbidden("a key belongs to one project", hint="sign in with your name and password to change projects")
    if found is None:
        raise NotFound(f"you are in no project {project}", where="/project")
    session.execute(update(BrowserSession).where(BrowserSession.digest == session_digest).values(project_id=found))


def projects_of(session: Session, actor: Actor) -> list[ProjectRole]:
    """Those that the actor can act in, by name: of a key, its own alone."""
    if actor.user_id is None:
        return []
    statement = (
        select(Project.name, Project.id, Membership.role)
        .join(Membership, Membership.project_id == Project.id)
        .where(Membership.user_id == actor.user_id)
        .order_by(Project.name)
    )
    if actor.key_id is not None:
        statement = statement.where(Project.id == actor.project_id)
    return [ProjectRole(project=name, project_id=id, role=Role(role)) for name, id, role in session.execute(statement)]


def granted(role: Role | None, admin: bool, scopes: Iterable[str] | None = None) -> frozenset[Permission]:
    """What a person may: by their role in the project, as a platform admin, and at most what the key's scopes name."""
    of_role = PERMISSIONS[role] if role else frozenset()
    of_admin = PLATFORM if admin else frozenset()
    everything = of_role | of_admin
    return everything if scopes is None else everything & frozenset(known(scopes))


def _keys() -> Select[*tuple[Any, ...]]:
    """What decides whom a live key speaks for: columns alone, since every request asks."""
    member = and_(Membership.user_id == ApiKey.user_id, Membership.project_id == ApiKey.project_id)
    return (
        select(
            *(ApiKey.id, ApiKey.name, ApiKey.project_id, ApiKey.digest, ApiKey.scopes, ApiKey.last_used_at),
            Project.name.label("project"),
            Project.max_stored_bytes.is_not(None).label("limited"),
            User.id.label("user_id"),
            User.name.label("user"),
            User.admin,
            Membership.role,
        )
        .join(Project, Project.id == ApiKey.project_id)
        .outerjoin(User, User.id == ApiKey.user_id)
        .outerjoin(Membership, member)
        .where(*live())
    )


_BY_DIGEST = _keys().where(ApiKey.digest == bindparam("wanted"))
"""Asked with every request, so it is built once."""


def _of_session(session: Session, wanted: str) -> tuple[Actor, datetime]:
    row = session.scalar(
        select(BrowserSession).where(BrowserSession.digest == wanted, BrowserSession.expires_at > func.now())
    )
    if row is None or not hmac.compare_digest(row.digest, wanted):
        raise _ended()
    if row.key_id is None:
        return _of_person(session, row), row.expires_at
    found = session.execute(_keys().where(ApiKey.id == row.key_id)).one_or_none()
    if found is None:
        raise _ended()
    return _of_key(session, found), row.expires_at


def _of_key(session: Session, key: Row[*tuple[Any, ...]]) -> Actor:
    """The actor of a row of `_keys`; notes that the key was used. The caller commits."""
    if key.last_used_at is None or datetime.now(UTC) - key.last_used_at > USED_RESOLUTION:
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=func.now()))
    role = Role(key.role) if key.role else None
    scopes = key.scopes or ()
    permissions = granted(role, key.admin, key.scopes) if key.user_id else SERVICE & frozenset(known(scopes))
    here = role is not None or key.user_id is None
    return Actor(
        project_id=key.project_id if here else NOWHERE,
        project_name=key.project if here else "",
        key_id=key.id,
        key_name=key.name,
        user_id=key.user_id,
        user_name=key.user,
        role=role,
        permissions=permissions,
        limited=key.limited,
    )


def _of_person(session: Session, row: BrowserSession) -> Actor:
    member = and_(Membership.user_id == User.id, Membership.project_id == row.project_id)
    found = session.execute(
        select(User, Membership.role, Project.name, Project.max_stored_bytes.is_not(None))
        .outerjoin(Membership, member)
        .outerjoin(Project, Project.id == Membership.project_id)
        .where(User.id == row.user_id, User.disabled_at.is_(None))
    ).one_or_none()
    if found is None:
        raise _ended()
    user, of_member, project, limited = found
    role = Role(of_member) if of_member else None
    return Actor(
        project_id=row.project_id if role and row.project_id else NOWHERE,
        project_name=project or "",
        key_id=None,
        key_name=None,
        user_id=user.id,
        user_name=user.name,
        role=role,
        permissions=granted(role, user.admin),
        limited=limited,
    )


def _ended() -> NotAuthenticated:
    return NotAuthenticated("the session has ended", hint="sign in again")

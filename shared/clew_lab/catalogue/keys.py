"""API keys: made, shown once, stored as an HMAC; rotated and revoked.

A key is `clew_`, 37 random letters and digits, and 6 more that are the CRC-32 of what stands before them, so that
secret scanners (and we, before asking the database) can tell a key from noise.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.pages import page
from clew_lab.catalogue.scope import Actor, get_key, may_see_key
from clew_lab.catalogue.tables import ApiKey, Membership, Project, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.api import KeyView, NewKeyView, Page
from clew_spec.errors import Conflict, Forbidden, InvalidSpec
from clew_spec.people import PERMISSIONS, KeyRequest, Permission, Role

PREFIX = "clew_"
SERVICE = PERMISSIONS[Role.ADMIN]
"""What a key that belongs to no person can be given."""

_BASE62 = string.digits + string.ascii_letters
_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{37}}[0-9A-Za-z]{{6}}")


def new_key() -> str:
    """A fresh key in plain text: about 220 random bits."""
    body = PREFIX + "".join(secrets.choice(_BASE62) for _ in range(37))
    return body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether this can be a key at all: its shape and its checksum."""
    return _SHAPE.fullmatch(key) is not None and hmac.compare_digest(_checksum(key[:-6]), key[-6:])


def digest(secret_key: SecretStr, value: str) -> str:
    """What is stored in place of a key or a cookie: HMAC-SHA256, hex."""
    return hmac.new(secret_key.get_secret_value().encode(), value.encode(), hashlib.sha256).hexdigest()


def create_key(
    session: Session,
    project: Project,
    name: str,
    *,
    secret_key: SecretStr,
    user: User | None = None,
    scopes: Iterable[Permission] | None = None,
    expires_at: datetime | None = None,
    by: Actor | None = None,
    request_id: str | None = None,
) -> tuple[ApiKey, str]:
    """Adds a key to the project, with its audit row; the caller commits.

    Returns the row and the key in plain text, which cannot be had again.
    """
    plain = new_key()
    row = ApiKey(
        project_id=project.id,
        user_id=user and user.id,
        name=name,
        hint=plain[-4:],
        digest=digest(secret_key, plain),
        scopes=None if scopes is None else sorted(set(scopes)),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    audit.record(session, by, "key.created", row.id, project_id=project.id, request_id=request_id, name=name)
    return row, plain


def make_key(
    session: Session, actor: Actor, request: KeyRequest, *, secret_key: SecretStr, request_id: str | None = None
) -> NewKeyView:
    """A key for the actor, or with `service` for its project, that can do no more and lasts no longer than its maker.

    Raises `Forbidden` for what its maker may not, `InvalidSpec` where a service key has no scopes.
    """
    maker = session.get(ApiKey, actor.key_id) if actor.key_id else None
    service = request.service or actor.user_id is None
    if service:
        actor.require(Permission.KEY_MANAGE)
        if request.scopes is None:
            raise InvalidSpec(
                "a key that belongs to no person needs scopes", where="/scopes", expected="a list of permissions"
            )
    scopes = request.scopes
    if scopes is None and maker is not None and maker.scopes is not None:
        scopes = sorted(actor.permissions)  # what restricts its maker restricts it
    given = actor.permissions & SERVICE if service else actor.permissions
    if beyond := sorted(set(scopes or ()) - given):
        raise Forbidden(f"you cannot give away {', '.join(beyond)}", where="/scopes", expected=_listed(given))
    now = datetime.now(UTC)
    if request.expires_at is not None and request.expires_at <= now:
        raise InvalidSpec("`expires_at` has passed", where="/expires_at", expected=f"a time after {now.isoformat()}")
    expires_at = request.expires_at
    if maker is not None and maker.expires_at is not None:
        expires_at = min(expires_at or maker.expires_at, maker.expires_at)
    row, plain = create_key(
        session,
        session.get_one(Project, actor.project_id),
        request.name,
        secret_key=secret_key,
        user=None if service else session.get_one(User, actor.user_id),
        scopes=scopes,
        expires_at=expires_at,
        by=actor,
        request_id=request_id,
    )
    return _with_secret(session, actor, row, plain)


def rotate_key(
    session: Session, actor: Actor, key_id: UUID, *, secret_key: SecretStr, request_id: str | None = None
) -> NewKeyView:
    """A new secret for the same key: the old one, and sessions opened with it, end at once.

    Raises `Conflict` for a key that is no longer good, `Forbidden` for one of another person, or one that may do what
    the actor may not: its secret would be an escalation.
    """
    row = get_key(session, actor, key_id)
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise Conflict(f"key {key_id} was revoked or has expired", hint="make a new one with POST /api/v1/keys")
    if row.user_id != actor.user_id and row.user_id is not None:
        raise Forbidden("a key of another person cannot be rotated, only revoked")
    maker = session.get(ApiKey, actor.key_id) if actor.key_id else None
    if maker is not None and maker.id != row.id:
        restricted = maker.scopes is not None
        beyond = restricted if row.scopes is None else not actor.permissions.issuperset(row.scopes)
        if beyond or (maker.expires_at is not None and (row.expires_at is None or row.expires_at > maker.expires_at)):
            raise Forbidden("that key may do more, or lasts longer, than the one you ask with")
    plain = new_key()
    row.digest, row.hint, row.last_used_at = digest(secret_key, plain), plain[-4:], None
    session.execute(delete(BrowserSession).where(BrowserSession.key_id == row.id))
    audit.record(session, actor, "key.rotated", row.id, project_id=row.project_id, request_id=request_id)
    session.flush()
    return _with_secret(session, actor, row, plain)


def revoke_key(session: Session, actor: Actor, key_id: UUID, *, request_id: str | None = None) -> None:
    """Ends the key and the sessions opened with it. Again changes nothing."""
    row = get_key(session, actor, key_id)
    if row.revoked_at is not None:
        return
    row.revoked_at = func.now()
    session.execute(delete(BrowserSession).where(BrowserSession.key_id == row.id))
    audit.record(session, actor, "key.revoked", row.id, project_id=row.project_id, request_id=request_id)


def list_keys(session: Session, actor: Actor, *, cursor: str | None = None, limit: int = 50) -> Page[KeyView]:
    return page(session, _views(actor), ApiKey, lambda row: _view(*row), cursor=cursor, limit=limit)


def live() -> list[ColumnElement[bool]]:
    """Conditions under which a key opens the lab; `User` is joined from outside."""
    return [
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
        User.disabled_at.is_(None),
    ]


def _views(actor: Actor) -> Select[Any]:
    member = and_(Membership.user_id == ApiKey.user_id, Membership.project_id == ApiKey.project_id)
    usable = and_(*live(), or_(ApiKey.user_id.is_(None), Membership.user_id.is_not(None)))
    return (
        select(ApiKey)
        .outerjoin(User, User.id == ApiKey.user_id)
        .outerjoin(Membership, member)
        .where(may_see_key(actor))
        .add_columns(User.name, usable)
    )


def _view(row: ApiKey, user: str | None, usable: bool) -> KeyView:
    return KeyView.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "hint": row.hint,
            "user": user,
            "scopes": None if row.scopes is None else known(row.scopes),
            "live": usable,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "revoked_at": row.revoked_at,
            "last_used_at": row.last_used_at,
        }
    )


def known(scopes: Iterable[str]) -> list[Permission]:
    """Without those that this version does not know: they give nothing."""
    return [Permission(scope) for scope in scopes if scope in set(Permission)]


def _with_secret(session: Session, actor: Actor, row: ApiKey, plain: str) -> NewKeyView:
    session.refresh(row)
    found = session.execute(_views(actor).where(ApiKey.id == row.id)).one()
    return NewKeyView(**_view(*found).model_dump(), key=plain)


def _listed(permissions: Iterable[Permission]) -> str:
    return f"some of {', '.join(sorted(permissions))}"


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))

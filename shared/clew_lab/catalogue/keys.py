"""API keys and browser sessions: made, shown once, stored as an HMAC, and traded for an `Actor`.

A key is `clew_`, 37 random letters and digits, and 6 more that are the CRC-32 of what stands before them, so that
secret scanners (and we, before asking the database) can tell a key from noise.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import ApiKey, Audit, Project
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.errors import NotAuthenticated

PREFIX = "clew_"
SESSION_LIFETIME = timedelta(days=30)
USED_RESOLUTION = timedelta(minutes=1)
"""`last_used_at` is written at most this often, so that reading stays reading."""

_BASE62 = string.digits + string.ascii_letters
_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{37}}[0-9A-Za-z]{{6}}")
_REFUSED = "the key is not known, was revoked, or has expired"
_HINT = "send `Authorization: Bearer clew_...` with a key of this lab"


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
    admin: bool = False,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Adds a key to the project, with its audit row; the caller commits.

    Returns the row and the key in plain text, which cannot be had again.
    """
    plain = new_key()
    row = ApiKey(
        project_id=project.id,
        name=name,
        hint=plain[-4:],
        digest=digest(secret_key, plain),
        admin=admin,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    session.add(Audit(project_id=project.id, key_id=row.id, action="key.created", target=str(row.id)))
    return row, plain


def actor_of_key(session: Session, plain: str, *, secret_key: SecretStr) -> Actor:
    """Whose key this is. Raises `NotAuthenticated` for a wrong, revoked or expired one, without saying which."""
    if not well_formed(plain):
        raise NotAuthenticated(_REFUSED, hint=_HINT)
    wanted = digest(secret_key, plain)
    found = session.execute(_live_keys().where(ApiKey.digest == wanted)).one_or_none()
    if found is None or not hmac.compare_digest(found[0].digest, wanted):
        raise NotAuthenticated(_REFUSED, hint=_HINT)
    return _used(session, *found)


def is_live(session: Session, key_id: UUID, session_digest: str | None = None) -> bool:
    """Whether the key is still good, and so is the browser session that spoke for it, if one did."""
    live = _live_keys().where(ApiKey.id == key_id)
    if session_digest is not None:
        live = live.join(BrowserSession, BrowserSession.key_id == ApiKey.id).where(
            BrowserSession.digest == session_digest, BrowserSession.expires_at > func.now()
        )
    return session.execute(live).first() is not None


def open_session(session: Session, actor: Actor, *, secret_key: SecretStr) -> tuple[BrowserSession, str]:
    """A browser session of the actor's key; returns the row and the cookie's value. The caller commits."""
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at < func.now()))
    cookie = secrets.token_urlsafe(32)
    row = BrowserSession(
        key_id=actor.key_id,
        digest=digest(secret_key, cookie),
        expires_at=datetime.now(UTC) + SESSION_LIFETIME,
    )
    session.add(row)
    session.flush()
    return row, cookie


def actor_of_cookie(session: Session, cookie: str, *, secret_key: SecretStr) -> tuple[Actor, datetime]:
    """Whose session this is and until when. It ends with its key. Raises `NotAuthenticated`."""
    wanted = digest(secret_key, cookie)
    found = session.execute(
        _live_keys()
        .add_columns(BrowserSession)
        .join(BrowserSession, BrowserSession.key_id == ApiKey.id)
        .where(BrowserSession.digest == wanted, BrowserSession.expires_at > func.now())
    ).one_or_none()
    if found is None or not hmac.compare_digest(found[2].digest, wanted):
        raise NotAuthenticated("the session has ended", hint="sign in again with a key")
    key, project_name, browser_session = found
    return _used(session, key, project_name), browser_session.expires_at


def close_session(session: Session, cookie: str, *, secret_key: SecretStr) -> None:
    """Ends the session, if there is one. The caller commits."""
    session.execute(delete(BrowserSession).where(BrowserSession.digest == digest(secret_key, cookie)))


def _live_keys() -> Select[ApiKey, str]:
    return (
        select(ApiKey, Project.name)
        .join(Project, Project.id == ApiKey.project_id)
        .where(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
    )


def _used(session: Session, key: ApiKey, project_name: str) -> Actor:
    """The key's actor; notes that the key was used. The caller commits."""
    if key.last_used_at is None or datetime.now(UTC) - key.last_used_at > USED_RESOLUTION:
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=func.now()))
    return Actor(
        project_id=key.project_id, project_name=project_name, key_id=key.id, key_name=key.name, admin=key.admin
    )


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))

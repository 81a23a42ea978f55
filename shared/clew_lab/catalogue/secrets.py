"""Secrets of projects: sealed in the database, opened by a worker for the runner of a job that needs them.

AES-256-GCM under a key that is derived from `CLEW_SECRET_KEY` (HKDF-SHA256), bound to project and name: a sealed value
in another row opens to nothing. Whoever changes `CLEW_SECRET_KEY` sets the secrets anew.
"""

import base64
import os
from collections.abc import Iterable
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Secret, User
from clew_spec.data_views import SecretView
from clew_spec.errors import DataError, NotFound
from clew_spec.secrets import SecretName

NONCE_BYTES = 12


def set_secret(
    session: Session,
    actor: Actor,
    name: SecretName,
    value: SecretStr,
    *,
    secret_key: SecretStr,
    request_id: str | None = None,
) -> SecretView:
    """In place of the one there was."""
    plain = value.get_secret_value()
    new = {"sealed": seal(plain, actor.project_id, name, secret_key), "user_id": actor.user_id, "set_at": func.now()}
    session.execute(
        insert(Secret)
        .values(project_id=actor.project_id, name=name.value, **new)
        .on_conflict_do_update(index_elements=[Secret.project_id, Secret.name], set_=new)
    )
    audit.record(session, actor, "secret.set", name.value, project_id=actor.project_id, request_id=request_id)
    (view,) = [view for view in list_secrets(session, actor) if view.name == name]
    return view


def list_secrets(session: Session, actor: Actor) -> list[SecretView]:
    """Which are set in the project at hand, and by whom."""
    rows = session.execute(
        select(Secret.name, User.name, Secret.set_at)
        .outerjoin(User, User.id == Secret.user_id)
        .where(Secret.project_id == actor.project_id)
        .order_by(Secret.name)
    )
    known = set(SecretName)
    return [SecretView(name=SecretName(name), user=user, set_at=at) for name, user, at in rows if name in known]


def delete_secret(session: Session, actor: Actor, name: SecretName, *, request_id: str | None = None) -> None:
    """Raises `NotFound`."""
    gone = delete(Secret).where(Secret.project_id == actor.project_id, Secret.name == name.value)
    if session.scalar(gone.returning(Secret.name)) is None:
        raise NotFound(f"the secret {name} is not set", hint="list them with GET /api/v1/secrets")
    audit.record(session, actor, "secret.deleted", name.value, project_id=actor.project_id, request_id=request_id)


def opened(session: Session, project_id: UUID, names: Iterable[SecretName], *, secret_key: SecretStr) -> dict[str, str]:
    """Those of these that the project has set, in plain text. Raises `DataError` where one cannot be opened."""
    rows = session.scalars(select(Secret).where(Secret.project_id == project_id, Secret.name.in_(names)))
    return {row.name: unseal(row.sealed, project_id, row.name, secret_key) for row in rows}


def seal(plain: str, project_id: UUID, name: str, secret_key: SecretStr) -> str:
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_key(secret_key)).encrypt(nonce, plain.encode(), _bound_to(project_id, name))
    return base64.b64encode(nonce + sealed).decode()


def unseal(sealed: str, project_id: UUID, name: str, secret_key: SecretStr) -> str:
    try:
        raw = base64.b64decode(sealed, validate=True)
        return (
            AESGCM(_key(secret_key)).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(project_id, name)).decode()
        )
    except (InvalidTag, ValueError):
        raise DataError(
            f"the secret {name} cannot be opened",
            hint=f"CLEW_SECRET_KEY was changed, or is another at the API: `clew secret set {name}` sets it anew",
        ) from None


def _key(secret_key: SecretStr) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"clew secrets of projects")
    return derived.derive(secret_key.get_secret_value().encode())


def _bound_to(project_id: UUID, name: str) -> bytes:
    return f"{project_id}/{name}".encode()

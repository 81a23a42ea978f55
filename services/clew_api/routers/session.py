"""A browser's session: a key, or a name and its password, traded once for a cookie that scripts cannot read."""

from typing import Annotated
from urllib.parse import quote
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import SecretStr
from sqlalchemy.orm import Session

from clew_api.auth import COOKIE, Caller, CallerDep, from_elsewhere, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import Lab, LabDep
from clew_api.problems import declared
from clew_lab.catalogue import audit, identity, passwords, people
from clew_lab.catalogue.scope import NOWHERE, Actor
from clew_lab.catalogue.tables import User
from clew_spec.api import SessionView
from clew_spec.errors import Forbidden, NotAuthenticated
from clew_spec.people import PasswordChange, SessionChange, SessionRequest

log = structlog.get_logger()
router = APIRouter(prefix="/session", tags=["session"], responses=declared(403))


@router.post("", responses=declared(401, 413, 415, 422, 429, 503), openapi_extra=declared_body(SessionRequest))
def open_session(
    lab: LabDep,
    asked: Annotated[SessionRequest, Depends(body_of(SessionRequest))],
    request: Request,
    response: Response,
) -> SessionView:
    """Sign in. The session ends by itself after 30 days, and with its key or its person's leave."""
    if from_elsewhere(request):
        raise Forbidden("a page of another origin may not sign you in")
    secret_key = lab.settings.secret_key
    if asked.key is not None:
        with lab.transaction() as session:
            opened_by = {"key_id": identity.actor_of_key(session, asked.key, secret_key=secret_key).key_id}
    else:
        opened_by = {"user_id": _checked(lab, request, asked.name or "", asked.password or SecretStr(""))}
    with lab.transaction() as session:
        _, cookie = identity.open_session(
            session, **opened_by, secret_key=secret_key, replaces=request.cookies.get(COOKIE)
        )
        actor, expires_at = identity.actor_of_cookie(session, cookie, secret_key=secret_key)
        audit.record(session, actor, "session.opened", actor.user_id or actor.key_id or "", request_id=request_id())
        view = _view(session, Caller(actor, "", expires_at))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(identity.SESSION_LIFETIME.total_seconds()),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return view


@router.get("", dependencies=[requires()], responses=declared(401, 503))
def get_session(lab: LabDep, found: CallerDep) -> SessionView:
    """Who you are, and what you may."""
    with lab.transaction() as session:
        return _view(session, found)


@router.patch(
    "",
    dependencies=[requires()],
    responses=declared(401, 404, 413, 415, 422, 503),
    openapi_extra=declared_body(SessionChange),
)
def change_session(
    lab: LabDep, found: CallerDep, asked: Annotated[SessionChange, Depends(body_of(SessionChange))], request: Request
) -> SessionView:
    """Act in another of your projects. A key has one project, and so has a session opened with it."""
    secret_key = lab.settings.secret_key
    with lab.transaction() as session:
        identity.act_in(session, found.actor, found.session_digest, asked.project)
        actor, expires_at = identity.actor_of_cookie(session, request.cookies[COOKIE], secret_key=secret_key)
        return _view(session, Caller(actor, found.credential, expires_at))


@router.put(
    "/password",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[requires()],
    responses=declared(401, 413, 415, 422, 429, 503),
    openapi_extra=declared_body(PasswordChange),
)
def change_password(
    lab: LabDep, found: CallerDep, asked: Annotated[PasswordChange, Depends(body_of(PasswordChange))], request: Request
) -> None:
    """Change your own, by the present one; your other sessions end."""
    actor = found.actor
    if actor.key_id is not None or actor.user_name is None:
        raise Forbidden("a key changes no password", hint="sign in with your name and password")
    _checked(lab, request, actor.user_name, asked.password)
    stored = passwords.hashed(asked.new_password)
    with lab.transaction() as session:
        people.change_password(session, actor, stored, keep=found.session_digest, request_id=request_id())


@router.delete("", status_code=status.HTTP_204_NO_CONTENT, dependencies=[requires()], responses=declared(401, 503))
def close_session(lab: LabDep, request: Request, response: Response) -> None:
    """Sign out."""
    with lab.transaction() as session:
        identity.close_session(session, request.cookies.get(COOKIE, ""), secret_key=lab.settings.secret_key)
    response.delete_cookie(COOKIE, secure=request.url.scheme == "https", httponly=True, samesite="strict")


def _checked(lab: Lab, request: Request, name: str, password: SecretStr) -> UUID:
    """Whose password this is. Raises `NotAuthenticated`, without saying whether there is such a person."""
    address = request.client.host if request.client else "unknown"
    with lab.transaction() as session:
        passwords.begin_attempt(session, name, address)
        found = passwords.password_of(session, name)
    # Computed between transactions: it takes long on purpose.
    if not passwords.right(password, found and found[1]) or found is None:
        log.warning("session.refused", name=quote(name), address=address)
        raise NotAuthenticated("the name or the password is wrong", hint="an admin of the lab can set a new password")
    with lab.transaction() as session:
        passwords.forgive_attempts(session, name, address)
    return found[0]


def _view(session: Session, found: Caller) -> SessionView:
    actor: Actor = found.actor
    user = session.get(User, actor.user_id) if actor.user_id else None
    somewhere = actor.project_id != NOWHERE
    return SessionView(
        project=actor.project_name if somewhere else None,
        project_id=actor.project_id if somewhere else None,
        user=actor.user_name,
        display_name=user and user.display_name,
        user_id=actor.user_id,
        key_id=actor.key_id,
        key_name=actor.key_name,
        role=actor.role,
        admin=user is not None and user.admin,
        permissions=sorted(actor.permissions),
        projects=identity.projects_of(session, actor),
        expires_at=found.session_expires_at,
    )

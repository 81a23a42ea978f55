"""A browser's session: a key, or a name and its password, traded once for a cookie that scripts cannot read."""

from typing import Annotated
from urllib.parse import quote

import structlog
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import SecretStr
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from clew_api.auth import COOKIE, Caller, CallerDep, from_elsewhere, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import Lab, LabDep
from clew_api.problems import declared
from clew_lab.catalogue import audit, identity, passwords, people
from clew_lab.catalogue.identity import Shown
from clew_lab.catalogue.scope import NOWHERE, Actor
from clew_lab.catalogue.tables import User
from clew_spec.api import SessionView
from clew_spec.errors import Forbidden, NotAuthenticated
from clew_spec.people import PasswordChange, SessionChange, SessionRequest

log = structlog.get_logger()
router = APIRouter(prefix="/session", tags=["session"], responses=declared(403))

SignIn = Annotated[SessionRequest, Depends(body_of(SessionRequest))]
NewPassword = Annotated[PasswordChange, Depends(body_of(PasswordChange))]


async def _signing_in(lab: LabDep, asked: SignIn, request: Request) -> Shown:
    if from_elsewhere(request):
        raise Forbidden("a page of another origin may not sign you in")
    if asked.key is not None:
        return await run_in_threadpool(_key, lab, asked.key)
    name, password = asked.name or "", asked.password or SecretStr("")
    return await run_sync(_password, lab, request, name, password, limiter=lab.hashing)


async def _changing(lab: LabDep, found: CallerDep, asked: NewPassword, request: Request) -> tuple[Shown, str]:
    """The present password, and the new one's hash."""
    actor = found.actor
    if actor.key_id is not None or actor.user_name is None:
        raise Forbidden("a key changes no password", hint="sign in with your name and password")
    shown = await run_sync(_password, lab, request, actor.user_name, asked.password, limiter=lab.hashing)
    return shown, await run_sync(passwords.hashed, asked.new_password, limiter=lab.hashing)


@router.post("", responses=declared(401, 413, 415, 422, 429, 503), openapi_extra=declared_body(SessionRequest))
def open_session(
    lab: LabDep, shown: Annotated[Shown, Depends(_signing_in)], request: Request, response: Response
) -> SessionView:
    """Sign in. The session ends by itself after 30 days, and with its key or its person's leave."""
    secret_key = lab.settings.secret_key
    with lab.transaction() as session:
        _, cookie = identity.open_session(session, shown, secret_key=secret_key, replaces=request.cookies.get(COOKIE))
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
def change_password(lab: LabDep, found: CallerDep, changing: Annotated[tuple[Shown, str], Depends(_changing)]) -> None:
    """Change your own, by the present one; your other sessions end."""
    with lab.transaction() as session:
        people.change_password(session, found.actor, *changing, keep=found.session_digest, request_id=request_id())


@router.delete("", status_code=status.HTTP_204_NO_CONTENT, dependencies=[requires()], responses=declared(401, 503))
def close_session(lab: LabDep, found: CallerDep, request: Request, response: Response) -> None:
    """Sign out."""
    actor, cookie = found.actor, request.cookies.get(COOKIE, "")
    with lab.transaction() as session:
        if identity.close_session(session, cookie, secret_key=lab.settings.secret_key):
            audit.record(session, actor, "session.closed", actor.user_id or actor.key_id or "", request_id=request_id())
    response.delete_cookie(COOKIE, secure=request.url.scheme == "https", httponly=True, samesite="strict")


def _key(lab: Lab, plain: str) -> Shown:
    with lab.transaction() as session:
        return identity.key_shown(session, plain, secret_key=lab.settings.secret_key)


def _password(lab: Lab, request: Request, name: str, password: SecretStr) -> Shown:
    """Raises `NotAuthenticated`, without saying whether there is such a person."""
    address = request.client.host if request.client else "unknown"
    with lab.transaction() as session:
        passwords.begin_attempt(session, name, address)
        found = identity.password_of(session, name)
    # Computed between transactions: it takes long on purpose.
    if not passwords.right(password, found and found.stored) or found is None:
        log.warning("session.refused", name=quote(name), address=address)
        raise NotAuthenticated("the name or the password is wrong", hint="an admin of the lab can set a new password")
    with lab.transaction() as session:
        passwords.forgive_attempts(session, name, address)
    return found


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

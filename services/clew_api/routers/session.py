"""A browser's session: a key, traded once for a cookie that scripts cannot read."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status

from clew_api.auth import COOKIE, CallerDep, caller
from clew_api.body import body_of, declared_body
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue import keys
from clew_spec.api import SessionRequest, SessionView

router = APIRouter(prefix="/session", tags=["session"])


@router.post("", responses=declared(401, 413, 415, 422, 503), openapi_extra=declared_body(SessionRequest))
def open_session(
    lab: LabDep,
    asked: Annotated[SessionRequest, Depends(body_of(SessionRequest))],
    request: Request,
    response: Response,
) -> SessionView:
    """Sign in. The session ends by itself after 30 days, and with its key."""
    secret_key = lab.settings.secret_key
    with lab.transaction() as session:
        actor = keys.actor_of_key(session, asked.key, secret_key=secret_key)
        opened, cookie = keys.open_session(session, actor, secret_key=secret_key)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(keys.SESSION_LIFETIME.total_seconds()),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return SessionView(project=actor.project_name, key_name=actor.key_name, expires_at=opened.expires_at)


@router.get("", responses=declared(401, 503))
def get_session(found: CallerDep) -> SessionView:
    """Who you are."""
    actor = found.actor
    return SessionView(project=actor.project_name, key_name=actor.key_name, expires_at=found.session_expires_at)


@router.delete(
    "", status_code=status.HTTP_204_NO_CONTENT, responses=declared(401, 403, 503), dependencies=[Depends(caller)]
)
def close_session(lab: LabDep, request: Request, response: Response) -> None:
    """Sign out."""
    with lab.transaction() as session:
        keys.close_session(session, request.cookies.get(COOKIE, ""), secret_key=lab.settings.secret_key)
    response.delete_cookie(COOKIE, secure=request.url.scheme == "https", httponly=True, samesite="strict")

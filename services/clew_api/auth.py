"""Who is asking: by the bearer key, else by the session's cookie."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from clew_api.lab import Lab, LabDep
from clew_lab.catalogue import keys
from clew_lab.catalogue.scope import Actor
from clew_spec.errors import Forbidden, NotAuthenticated

COOKIE = "clew_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="an API key: `clew_...`")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="set by POST /api/v1/session")


@dataclass(frozen=True)
class Caller:
    """Also in `request.state.caller`, for the log."""

    actor: Actor
    session_expires_at: datetime | None = None
    """Where a cookie spoke for it."""
    session_digest: str | None = None
    """Of that cookie."""


def caller(
    request: Request,
    lab: LabDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Raises `NotAuthenticated`; `Forbidden` where a foreign page uses the cookie to change something."""
    found = _by_key(lab, bearer) if "authorization" in request.headers else _by_cookie(lab, request, cookie)
    request.state.caller = found
    return found


def _actor(found: Annotated[Caller, Depends(caller)]) -> Actor:
    return found.actor


def _admin(actor: Annotated[Actor, Depends(_actor)]) -> Actor:
    if not actor.admin:
        raise Forbidden("this is for who runs the lab", expected="an admin key")
    return actor


CallerDep = Annotated[Caller, Depends(caller)]
ActorDep = Annotated[Actor, Depends(_actor)]
AdminDep = Annotated[Actor, Depends(_admin)]
"""Raises `Forbidden` where the key is no admin's."""


def _by_key(lab: Lab, bearer: HTTPAuthorizationCredentials | None) -> Caller:
    if bearer is None:
        raise NotAuthenticated("the Authorization header is not a bearer key", expected="Bearer clew_...")
    with lab.transaction() as session:
        return Caller(keys.actor_of_key(session, bearer.credentials, secret_key=lab.settings.secret_key))


def _by_cookie(lab: Lab, request: Request, cookie: str | None) -> Caller:
    if cookie is None:
        raise NotAuthenticated("no key was given", expected="Authorization: Bearer clew_...")
    with lab.transaction() as session:
        actor, expires_at = keys.actor_of_cookie(session, cookie, secret_key=lab.settings.secret_key)
    if request.method not in SAFE and not same_origin(request):
        raise Forbidden("a page of another origin may not act with your session", hint="use a key")
    return Caller(actor, expires_at, keys.digest(lab.settings.secret_key, cookie))


def same_origin(request: Request) -> bool:
    """As the browser says it: by `Sec-Fetch-Site`, else by `Origin`. No word of it counts as no."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    # The scheme is left out: behind a proxy that ends TLS it is not ours to see.
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")

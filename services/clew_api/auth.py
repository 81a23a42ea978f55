"""Who is asking: by the bearer key, else by the session's cookie. And what a route asks of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from clew_api.lab import Lab
from clew_api.together import Together
from clew_lab.catalogue import identity, keys
from clew_lab.catalogue.scope import Actor
from clew_spec.errors import Forbidden, NotAuthenticated
from clew_spec.people import Permission

COOKIE = "clew_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="an API key: `clew_...`")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="set by POST /api/v1/session")


@dataclass(frozen=True)
class Caller:
    """Also in `request.state.caller`, for the log."""

    actor: Actor
    credential: str
    """What is stored of the key or the cookie that spoke for it."""
    session_expires_at: datetime | None = None
    """Where a cookie did."""

    @property
    def session_digest(self) -> str | None:
        return None if self.session_expires_at is None else self.credential


class Credential(NamedTuple):
    text: str
    """Of a key, or a cookie's value."""
    of_session: bool


Callers = Together[Credential, None, Caller]
"""Requests that come at once with the same key or cookie ask Postgres once whose it is."""


def callers(lab: Lab, credential: Credential, requests: Sequence[None]) -> list[Caller]:
    """Who speaks in each of the requests. Raises `NotAuthenticated`."""
    secret_key = lab.settings.secret_key
    digest = keys.digest(secret_key, credential.text)
    if credential.of_session:
        with lab.transaction() as session:
            actor, expires_at = identity.actor_of_cookie(session, credential.text, secret_key=secret_key)
        return [Caller(actor, digest, expires_at)] * len(requests)
    with lab.statement() as session:
        actor = identity.actor_of_key(session, credential.text, secret_key=secret_key)
    return [Caller(actor, digest)] * len(requests)


async def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Raises `NotAuthenticated`; `Forbidden` where a foreign page uses the cookie to change something."""
    credential = _credential(request, bearer, cookie)
    asked: Callers = request.app.state.callers
    found = await asked.ask(credential, None)
    if credential.of_session and request.method not in SAFE and not same_origin(request):
        raise Forbidden("a page of another origin may not act with your session", hint="use a key")
    request.state.caller = found
    return found


async def _actor(found: Annotated[Caller, Depends(caller)]) -> Actor:
    return found.actor


CallerDep = Annotated[Caller, Depends(caller)]
ActorDep = Annotated[Actor, Depends(_actor)]


@dataclass(frozen=True)
class Requires:
    """A dependency: lets through who has one of the permissions, or, where there are none, whoever is known."""

    permissions: tuple[Permission, ...]

    async def __call__(self, found: CallerDep) -> None:
        if self.permissions:
            found.actor.require(*self.permissions)


def requires(*permissions: Permission) -> Any:
    """`dependencies=[requires(...)]` of a router or a route. Without permissions it asks for any key or session."""
    return Depends(Requires(permissions))


def declared_permissions(route: APIRoute) -> list[tuple[Permission, ...]]:
    """What the route asks for, router's and its own."""
    return [each.permissions for each in (one.call for one in _all(route.dependant)) if isinstance(each, Requires)]


def refuse_undeclared(routes: Iterable[Any], public: frozenset[str]) -> None:
    """Deny by default: an API with a route that says not what it asks for does not start. `public`: names of those
    that ask for nothing."""
    for route in routes:
        if isinstance(route, APIRoute) and route.name not in public and not declared_permissions(route):
            raise RuntimeError(f"{route.name} ({route.path}) declares no permission: see clew_api.auth.requires")


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


def _credential(request: Request, bearer: HTTPAuthorizationCredentials | None, cookie: str | None) -> Credential:
    if "authorization" in request.headers:
        if bearer is None:
            raise NotAuthenticated("the Authorization header is not a bearer key", expected="Bearer clew_...")
        return Credential(bearer.credentials, of_session=False)
    if cookie is None:
        raise NotAuthenticated("no key was given", expected="Authorization: Bearer clew_...")
    return Credential(cookie, of_session=True)


def same_origin(request: Request) -> bool:
    """As the browser says it: by `Sec-Fetch-Site`, else by `Origin`. No word of it counts as no."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    # The scheme is left out: behind a proxy that ends TLS it is not ours to see.
    host = request.headers.get("origin", "").partition("://")[2]
    return host != "" and host == request.headers.get("host")


def from_elsewhere(request: Request) -> bool:
    """Whether a browser says that a page of another origin asks. Other clients say nothing, and have no cookie."""
    spoken = "sec-fetch-site" in request.headers or "origin" in request.headers
    return spoken and not same_origin(request)

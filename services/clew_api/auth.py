"""Who is asking: by the bearer key, else by the session's cookie. And what a route asks of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from clew_api.lab import Lab, LabDep
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


def _by_key(lab: Lab, bearer: HTTPAuthorizationCredentials | None) -> Caller:
    if bearer is None:
        raise NotAuthenticated("the Authorization header is not a bearer key", expected="Bearer clew_...")
    secret_key = lab.settings.secret_key
    with lab.statement() as session:
        actor = identity.actor_of_key(session, bearer.credentials, secret_key=secret_key)
    return Caller(actor, keys.digest(secret_key, bearer.credentials))


def _by_cookie(lab: Lab, request: Request, cookie: str | None) -> Caller:
    if cookie is None:
        raise NotAuthenticated("no key was given", expected="Authorization: Bearer clew_...")
    secret_key = lab.settings.secret_key
    with lab.transaction() as session:
        actor, expires_at = identity.actor_of_cookie(session, cookie, secret_key=secret_key)
    if request.method not in SAFE and not same_origin(request):
        raise Forbidden("a page of another origin may not act with your session", hint="use a key")
    return Caller(actor, keys.digest(secret_key, cookie), expires_at)


def same_origin(request: Request) -> bool:
    """As the browser says it: by `Sec-Fetch-Site`, else by `Origin`. No word of it counts as no."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    # The scheme is left out: behind a proxy that ends TLS it is not ours to see.
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")


def from_elsewhere(request: Request) -> bool:
    """Whether a browser says that a page of another origin asks. Other clients say nothing, and have no cookie."""
    spoken = "sec-fetch-site" in request.headers or "origin" in request.headers
    return spoken and not same_origin(request)

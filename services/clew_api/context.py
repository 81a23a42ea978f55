"""Around every request: its id, its line in the log, headers that make browsers careful, and the last safety net.

Paths are logged in percent-encoding: what a stranger writes there moves no terminal.
"""

import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from urllib.parse import quote
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

POLICY = (
    # Scripts come from files of this origin alone. The dashboard's theme is a style element that it writes itself.
    "default-src 'none'; script-src 'self'; connect-src 'self' {store}; img-src 'self' data:; font-src 'self'; "
    "style-src 'self'; style-src-elem 'self' 'unsafe-inline'; style-src-attr 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CLIENT_LEFT = 499
"""As proxies log it: whoever asked went before the question was whole, so nobody is answered."""
UNENDING = ("/events", "/stream")
"""Paths that end so answer without end, and therefore not to HEAD."""


def request_id() -> str | None:
    """Of the request at hand."""
    return _request_id.get()


class RequestContext:
    """Outermost of our own layers.

    Args:
        failed: makes the answer for an exception that nobody caught.
        answered: is told of each request that ends by itself, with its status and the seconds it took.
        store: the origin of the object store, to which the dashboard sends uploads.
    """

    def __init__(
        self, app: ASGIApp, failed: Callable[[], Response], answered: Callable[[Scope, int, float], None], store: str
    ) -> None:
        self._app = app
        self._headers = {"Content-Security-Policy": POLICY.format(store=store), **SECURITY_HEADERS}
        self._failed = failed
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        id = given if _SANE.fullmatch(given) else uuid4().hex
        token = _request_id.set(id)
        began = time.perf_counter()
        status = 0
        state = scope.setdefault("state", {})
        inner = _head_as_get(scope)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=id):
            try:
                await self._app(inner, receive, send_with_headers)
            except ClientDisconnect:
                status = CLIENT_LEFT
            except Exception as error:
                log.exception(
                    "request.crashed", method=scope["method"], path=quote(scope["path"]), error=type(error).__name__
                )
                if status == 0:
                    await self._failed()(scope, receive, send_with_headers)
            finally:
                seconds = time.perf_counter() - began
                if not scope["path"].endswith(UNENDING):
                    self._answered({**inner, "method": scope["method"]}, status, seconds)
                caller = state.get("caller")
                log.info(
                    "request",
                    project=caller and caller.actor.project_name,
                    user=caller and caller.actor.user_name,
                    key=caller and caller.actor.key_name,
                    method=scope["method"],
                    path=quote(scope["path"]),
                    status=status,
                    ms=round(1000 * seconds, 1),
                )
                _request_id.reset(token)


def _head_as_get(scope: Scope) -> Scope:
    """HEAD is GET without the body, and the server drops that by itself."""
    if scope["method"] != "HEAD" or scope["path"].endswith(UNENDING):
        return scope
    return {**scope, "method": "GET"}

"""The built dashboard: a single page whose hashed assets never change."""

from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CHECKOUT = Path(__file__).parents[1] / "dashboard" / "dist"
"""Where `make` builds it in a working tree."""
PACKED = (("br", ".br"), ("gzip", ".gz"))


class Dashboard(StaticFiles):
    """Unknown paths that a browser would show get `index.html`; the page finds its way by the path."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.startswith("assets/"):
            response = await self._asset(path, scope)
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
            return response
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
            if error.status_code != 404 or b"text/html" not in accepts:
                raise
            response = await super().get_response("index.html", scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def _asset(self, path: str, scope: Scope) -> Response:
        """As `compress.js` packed it when it was built, in the best way that the browser takes; else as it is."""
        taken = Headers(scope=scope).get("accept-encoding", "")
        for encoding, ending in PACKED:
            if encoding in taken:
                with suppress(HTTPException):  # not every asset was packed
                    response = await super().get_response(path + ending, scope)
                    response.headers.update({"Content-Encoding": encoding, "Vary": "Accept-Encoding"})
                    return response
        response = await super().get_response(path, scope)
        response.headers["Vary"] = "Accept-Encoding"
        return response


class BesideTheApi(Mount):
    """Leaves the API's own 404 and 405 to the API."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if scope["path"].startswith("/api/") else super().matches(scope)


def install(app: FastAPI, folder: Path | None) -> None:
    """Serve it at `/`, below every other route, if it was built."""
    folder = folder or CHECKOUT
    if (folder / "index.html").is_file():
        app.router.routes.append(BesideTheApi("/", Dashboard(directory=folder, html=True), name="dashboard"))

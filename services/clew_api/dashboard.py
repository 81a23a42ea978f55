"""The built dashboard: a single page whose hashed assets never change."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CHECKOUT = Path(__file__).parents[1] / "dashboard" / "dist"
"""Where `make` builds it in a working tree."""


class Dashboard(StaticFiles):
    """Unknown paths that a browser would show get `index.html`; the page finds its way by the path."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
            if error.status_code != 404 or b"text/html" not in accepts or path.startswith("assets/"):
                raise
            path, response = "index.html", await super().get_response("index.html", scope)
        forever = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if forever else "no-cache"
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

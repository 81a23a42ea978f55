"""The application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.gzip import GZipMiddleware

from clew_api import dashboard, openapi, problems
from clew_api.auth import callers, refuse_undeclared
from clew_api.context import RequestContext
from clew_api.lab import Lab
from clew_api.monitoring import Monitoring
from clew_api.routers import (
    artifacts,
    audit,
    batches,
    coders,
    datasets,
    estimates,
    events,
    graphs,
    health,
    jobs,
    keys,
    metrics,
    models,
    overview,
    projects,
    secrets,
    session,
    uploads,
    users,
    workers,
)
from clew_api.submission import Submissions
from clew_api.together import Together
from clew_lab.settings import Settings
from clew_lab.storage import Store

PREFIX = "/api/v1"
ROUTERS = (
    jobs,
    batches,
    estimates,
    events,
    metrics,
    artifacts,
    models,
    datasets,
    coders,
    graphs,
    uploads,
    workers,
    overview,
    health,
    session,
)
PEOPLE = (users, projects, keys, secrets, audit)
PUBLIC = frozenset({"get_health", "get_liveness", "get_readiness", "open_session"})
"""Routes that ask for neither key nor session."""


def create_app(settings: Settings) -> FastAPI:
    """The API of one lab, and its dashboard where it was built. Servers are asked only when they are needed."""

    monitoring = Monitoring(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lab = Lab.of(settings)
        app.state.lab = lab
        app.state.probes = health.probes(lab)
        app.state.callers = asking = Together(partial(callers, lab))
        app.state.submissions = submissions = Submissions(lab)
        lab.bell.start(settings.database_url.get_secret_value())
        try:
            with monitoring.of(lab):
                yield
        finally:
            lab.bell.close()
            await submissions.close()
            await asking.close()
            lab.close()

    app = FastAPI(
        title="Clew",
        version=version("clew"),
        description="A shared laboratory for finding circuits in language models with transcoders.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its scripts come from elsewhere, which our own policy forbids
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    _install_routes(app)
    monitoring.install(app)
    dashboard.install(app, settings.dashboard_dir)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    app.add_middleware(
        RequestContext,
        failed=problems.internal_error,
        answered=monitoring.observe,
        store=Store.of(settings).origin,
    )
    return app


def routes_alone() -> FastAPI:
    """For the contract: nothing behind the routes."""
    app = FastAPI(title="Clew", version=version("clew"), generate_unique_id_function=_operation_id)
    _install_routes(app)
    return app


def _install_routes(app: FastAPI) -> None:
    for module in (*ROUTERS, *PEOPLE):
        app.include_router(module.router, prefix=PREFIX)
        refuse_undeclared(module.router.routes, PUBLIC)
    problems.install(app)
    openapi.install(app)


def _operation_id(route: APIRoute) -> str:
    return route.name

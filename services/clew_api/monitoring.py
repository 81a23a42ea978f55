"""`/metrics` for Prometheus: how requests fare here, and the lab's queue and workers."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from starlette.types import Scope

from clew_api.lab import Lab
from clew_lab.monitoring import LabCollector
from clew_lab.settings import Settings
from clew_spec.errors import NotAuthenticated

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Monitoring:
    """Of one application."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "clew_http_request_seconds",
            "Time to answer, streams left out. The route is its template: no id and no name is in it.",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )

    def install(self, app: FastAPI) -> None:
        app.add_api_route("/metrics", self._show, include_in_schema=False)

    @contextmanager
    def of(self, lab: Lab) -> Iterator[None]:
        """While the lab is open, its queue is shown."""
        collector = LabCollector(lab.sessions, lab.settings)
        self._registry.register(collector)
        try:
            yield
        finally:
            self._registry.unregister(collector)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """One answered request. What a stranger may make up (paths, methods) becomes `other`."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(method, route, f"{status // 100}xx").observe(seconds)

    def _show(self, request: Request) -> Response:
        """In a thread: Postgres is asked."""
        token = self._settings.metrics_token
        if token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token.get_secret_value()}".encode()):
                raise NotAuthenticated("metrics are shown to who has the token", expected="the CLEW_METRICS_TOKEN")
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

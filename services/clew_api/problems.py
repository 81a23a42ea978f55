"""Every error leaves as `application/problem+json`; here is how each kind of exception becomes one."""

from typing import Any

import structlog
from fastapi import FastAPI, Request, Response, status
from fastapi.exceptions import RequestValidationError
from psycopg.errors import DiskFull
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from clew_api.context import request_id
from clew_spec.errors import (
    ClewError,
    Conflict,
    Forbidden,
    InvalidSpec,
    NotAuthenticated,
    NotFound,
    Problem,
    TooManyRequests,
    Unavailable,
)
from clew_spec.validation import problem_of_validation

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = {Unavailable.status: 2, TooManyRequests.status: 60}


class MethodNotAllowed(ClewError):
    code = "method-not-allowed"
    title = "This cannot be done here"
    status = 405


class TooLarge(ClewError):
    code = "too-large"
    title = "The request is too large"
    status = 413


class UnsupportedMediaType(ClewError):
    code = "unsupported-media-type"
    title = "The body is of another type than is understood"
    status = 415


BY_STATUS: dict[int, type[ClewError]] = {
    kind.status: kind
    for kind in (
        NotAuthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        TooLarge,
        UnsupportedMediaType,
        InvalidSpec,
        TooManyRequests,
        Unavailable,
    )
}


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: the problems it can answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": BY_STATUS[status].title, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    problem.request_id = request_id()
    extra = {"Cache-Control": "no-store", **(headers or {})}
    if problem.status == NotAuthenticated.status:
        extra["WWW-Authenticate"] = "Bearer"
    if problem.status in RETRY_AFTER_S:
        extra["Retry-After"] = str(RETRY_AFTER_S[problem.status])
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, status_code=problem.status, media_type=MEDIA_TYPE, headers=extra)


def internal_error() -> Response:
    """For what nobody expected: says where to look, and nothing of what is inside."""
    error = ClewError("something went wrong inside Clew", hint="the log tells more under this request id")
    return answer(error.problem())


def install(app: FastAPI) -> None:
    app.add_exception_handler(ClewError, _clew_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for lost in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(lost, _database_lost)


async def _clew_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClewError)  # registered for nothing else
    if error.status >= 500:
        log.error("request.failed", error=str(error), exc_info=error)
    return answer(error.problem())


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(problem_of_validation(list(error.errors())))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = BY_STATUS.get(error.status_code)
    details = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible here"}
    detail = details.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:  # the error names those of one route of several
        headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "")
    problem = (kind or ClewError)(detail, expected=headers.get("Allow")).problem()
    problem.status = error.status_code
    return answer(problem, headers)


def _methods(request: Request) -> set[str]:
    """All that can be asked of this path."""
    paths = request.app.openapi()["paths"]
    here = (methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path))
    return {method.upper() for methods in here for method in methods}


async def _database_lost(_: Request, error: Exception) -> Response:
    cause = getattr(error, "orig", error)
    log.error("database.lost", error=type(cause).__name__, exc_info=error)
    if isinstance(cause, DiskFull):
        return answer(Unavailable("the database has no room left", hint="whoever runs the lab can make some").problem())
    return answer(Unavailable("the database does not answer", hint="try again in a moment").problem())

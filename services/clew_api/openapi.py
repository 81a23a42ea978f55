"""The contract as OpenAPI: `python -m clew_api.openapi` prints it; no server and no setting is needed."""

import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from clew_spec.api import EventView
from clew_spec.batches import PipelineRequest, SweepRequest
from clew_spec.errors import Problem
from clew_spec.jobs import JobChange, JobRequest
from clew_spec.people import (
    KeyRequest,
    MemberChange,
    MemberRequest,
    PasswordChange,
    ProjectChange,
    ProjectRequest,
    SessionChange,
    SessionRequest,
    UserChange,
    UserRequest,
)
from clew_spec.secrets import SecretRequest
from clew_spec.uploads import UploadRequest

REQUESTS: tuple[type[BaseModel], ...] = (
    *(SweepRequest, PipelineRequest),
    *(JobRequest, JobChange, SessionRequest, SessionChange, PasswordChange, KeyRequest),
    *(UserRequest, UserChange, ProjectRequest, ProjectChange, MemberRequest, MemberChange),
    *(UploadRequest, SecretRequest),
)
"""Bodies that `clew_api.body` reads."""
_REF = "#/components/schemas/"


def install(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _add(schemas, Problem, inner="{model}")
    _add(schemas, EventView, inner="{model}")
    # What is sent has optional fields that what is answered always has: two schemas of one model.
    for request in REQUESTS:
        _add(schemas, request, inner="{model}Input")
    return document


def _add(schemas: dict[str, Any], model: type[BaseModel], *, inner: str) -> None:
    schema = model.model_json_schema(ref_template=_REF + inner)
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(inner.format(model=name), definition)
    if "$ref" not in schema:
        schemas.setdefault(model.__name__, schema)


def main() -> None:
    from clew_api.app import routes_alone

    json.dump(routes_alone().openapi(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""Secrets of the project at hand: set and deleted, and listed by name alone."""

from typing import Annotated

from fastapi import APIRouter, Depends, status

from clew_api.auth import ActorDep, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue import secrets
from clew_spec.data_views import SecretView
from clew_spec.people import Permission
from clew_spec.secrets import SecretName, SecretRequest

router = APIRouter(prefix="/secrets", tags=["people"], responses=declared(403))
MANAGE = [requires(Permission.SECRET_MANAGE)]


@router.get(
    "", dependencies=[requires(Permission.SECRET_MANAGE, Permission.JOB_SUBMIT)], responses=declared(401, 422, 503)
)
def list_secrets(lab: LabDep, actor: ActorDep) -> list[SecretView]:
    """Which are set: a job that needs one finds it. No value is ever shown."""
    with lab.transaction() as session:
        return secrets.list_secrets(session, actor)


@router.put(
    "/{name}",
    dependencies=MANAGE,
    responses=declared(401, 413, 415, 422, 503),
    openapi_extra=declared_body(SecretRequest),
)
def set_secret(
    lab: LabDep, actor: ActorDep, name: SecretName, asked: Annotated[SecretRequest, Depends(body_of(SecretRequest))]
) -> SecretView:
    """In place of the one there was; runners that are at work keep theirs."""
    with lab.transaction() as session:
        return secrets.set_secret(
            session, actor, name, asked.value, secret_key=lab.settings.secret_key, request_id=request_id()
        )


@router.delete(
    "/{name}", status_code=status.HTTP_204_NO_CONTENT, dependencies=MANAGE, responses=declared(401, 404, 422, 503)
)
def delete_secret(lab: LabDep, actor: ActorDep, name: SecretName) -> None:
    with lab.transaction() as session:
        secrets.delete_secret(session, actor, name, request_id=request_id())

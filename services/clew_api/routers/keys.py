"""API keys of the project at hand."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response, status

from clew_api.auth import ActorDep, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.params import Cursor, Limit
from clew_api.problems import declared
from clew_lab.catalogue import keys
from clew_spec.api import KeyView, NewKeyView, Page
from clew_spec.people import KeyRequest, Permission

router = APIRouter(
    prefix="/keys",
    tags=["people"],
    dependencies=[requires(Permission.KEY_CREATE, Permission.KEY_MANAGE)],
    responses=declared(403),
)


@router.get("", responses=declared(401, 422, 503))
def list_keys(lab: LabDep, actor: ActorDep, cursor: Cursor = None, limit: Limit = 50) -> Page[KeyView]:
    """Yours, newest first; all of the project's, to who manages them."""
    with lab.transaction() as session:
        return keys.list_keys(session, actor, cursor=cursor, limit=limit)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=declared(401, 413, 415, 422, 503),
    openapi_extra=declared_body(KeyRequest),
)
def create_key(
    lab: LabDep, actor: ActorDep, asked: Annotated[KeyRequest, Depends(body_of(KeyRequest))], response: Response
) -> NewKeyView:
    """The answer shows the key, which cannot be had again."""
    with lab.transaction() as session:
        view = keys.make_key(session, actor, asked, secret_key=lab.settings.secret_key, request_id=request_id())
    response.headers["Location"] = f"/api/v1/keys/{view.id}"
    return view


@router.post("/{key_id}/rotate", responses=declared(401, 404, 409, 422, 503))
def rotate_key(lab: LabDep, actor: ActorDep, key_id: UUID) -> NewKeyView:
    """A new secret for the same key; the old one is refused at once."""
    with lab.transaction() as session:
        return keys.rotate_key(session, actor, key_id, secret_key=lab.settings.secret_key, request_id=request_id())


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT, responses=declared(401, 404, 422, 503))
def revoke_key(lab: LabDep, actor: ActorDep, key_id: UUID) -> None:
    """It is refused from now on, and so are sessions opened with it."""
    with lab.transaction() as session:
        keys.revoke_key(session, actor, key_id, request_id=request_id())

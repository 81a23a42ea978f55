"""The people of the lab, to its admins."""

from typing import Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Response, status

from clew_api.auth import ActorDep, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.params import Cursor, Limit
from clew_api.problems import declared
from clew_lab.catalogue import passwords, people
from clew_spec.api import Page, UserView
from clew_spec.base import Name
from clew_spec.people import Permission, UserChange, UserRequest

router = APIRouter(
    prefix="/users", tags=["people"], dependencies=[requires(Permission.USER_MANAGE)], responses=declared(403)
)

NewUser = Annotated[UserRequest, Depends(body_of(UserRequest))]
ChangedUser = Annotated[UserChange, Depends(body_of(UserChange))]


async def _hashed_new(lab: LabDep, asked: NewUser) -> str | None:
    return None if asked.password is None else await run_sync(passwords.hashed, asked.password, limiter=lab.hashing)


async def _hashed_changed(lab: LabDep, asked: ChangedUser) -> str | None:
    return None if asked.password is None else await run_sync(passwords.hashed, asked.password, limiter=lab.hashing)


@router.get("", responses=declared(401, 422, 503))
def list_users(
    lab: LabDep,
    name: Annotated[Name | None, Query(description="only the one of this name")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[UserView]:
    """Newest first."""
    with lab.transaction() as session:
        return people.list_users(session, name=name, cursor=cursor, limit=limit)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=declared(401, 409, 413, 415, 422, 503),
    openapi_extra=declared_body(UserRequest),
)
def create_user(
    lab: LabDep,
    actor: ActorDep,
    asked: NewUser,
    password: Annotated[str | None, Depends(_hashed_new)],
    response: Response,
) -> UserView:
    """A new person, who is in no project yet."""
    with lab.transaction() as session:
        view = people.create_user(session, actor, asked, password=password, request_id=request_id())
    response.headers["Location"] = f"/api/v1/users/{view.id}"
    return view


@router.get("/{user_id}", responses=declared(401, 404, 422, 503))
def get_user(lab: LabDep, user_id: UUID) -> UserView:
    with lab.transaction() as session:
        return people.get_user(session, user_id)


@router.patch(
    "/{user_id}", responses=declared(401, 404, 409, 413, 415, 422, 503), openapi_extra=declared_body(UserChange)
)
def change_user(
    lab: LabDep,
    actor: ActorDep,
    user_id: UUID,
    asked: ChangedUser,
    password: Annotated[str | None, Depends(_hashed_changed)],
) -> UserView:
    """Rename, promote, disable, or set a password. Nobody is deleted: what they did stays theirs."""
    with lab.transaction() as session:
        return people.change_user(session, actor, user_id, asked, password=password, request_id=request_id())

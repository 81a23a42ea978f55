"""Projects and their members."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response, status

from clew_api.auth import ActorDep, requires
from clew_api.body import body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.params import Cursor, Limit
from clew_api.problems import declared
from clew_lab.catalogue import people
from clew_spec.api import MemberView, Page, ProjectView
from clew_spec.people import MemberChange, MemberRequest, Permission, ProjectChange, ProjectRequest

router = APIRouter(prefix="/projects", tags=["people"], responses=declared(403))

READ = [requires(Permission.PROJECT_READ)]
MANAGE = [requires(Permission.PROJECT_MANAGE)]
READ_MEMBERS = [requires(Permission.MEMBER_READ, Permission.PROJECT_MANAGE)]
MANAGE_MEMBERS = [requires(Permission.MEMBER_MANAGE, Permission.PROJECT_MANAGE)]


@router.get("", dependencies=READ, responses=declared(401, 422, 503))
def list_projects(lab: LabDep, actor: ActorDep, cursor: Cursor = None, limit: Limit = 50) -> Page[ProjectView]:
    """The one you act in; all of them, to admins of the lab. `GET /api/v1/session` lists those you are in."""
    with lab.transaction() as session:
        return people.list_projects(session, actor, cursor=cursor, limit=limit)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=MANAGE,
    responses=declared(401, 409, 413, 415, 422, 503),
    openapi_extra=declared_body(ProjectRequest),
)
def create_project(
    lab: LabDep, actor: ActorDep, asked: Annotated[ProjectRequest, Depends(body_of(ProjectRequest))], response: Response
) -> ProjectView:
    with lab.transaction() as session:
        view = people.create_project(session, actor, asked, request_id=request_id())
    response.headers["Location"] = f"/api/v1/projects/{view.id}"
    return view


@router.get("/{project_id}", dependencies=READ, responses=declared(401, 404, 422, 503))
def get_project(lab: LabDep, actor: ActorDep, project_id: UUID) -> ProjectView:
    with lab.transaction() as session:
        return people.get_project_view(session, actor, project_id)


@router.patch(
    "/{project_id}",
    dependencies=MANAGE,
    responses=declared(401, 404, 413, 415, 422, 503),
    openapi_extra=declared_body(ProjectChange),
)
def change_project(
    lab: LabDep, actor: ActorDep, project_id: UUID, asked: Annotated[ProjectChange, Depends(body_of(ProjectChange))]
) -> ProjectView:
    with lab.transaction() as session:
        return people.change_project(session, actor, project_id, asked, request_id=request_id())


@router.get("/{project_id}/members", dependencies=READ_MEMBERS, responses=declared(401, 404, 422, 503))
def list_members(lab: LabDep, actor: ActorDep, project_id: UUID) -> list[MemberView]:
    with lab.transaction() as session:
        return people.list_members(session, actor, project_id)


@router.post(
    "/{project_id}/members",
    status_code=status.HTTP_201_CREATED,
    dependencies=MANAGE_MEMBERS,
    responses=declared(401, 404, 409, 413, 415, 422, 503),
    openapi_extra=declared_body(MemberRequest),
)
def add_member(
    lab: LabDep, actor: ActorDep, project_id: UUID, asked: Annotated[MemberRequest, Depends(body_of(MemberRequest))]
) -> MemberView:
    with lab.transaction() as session:
        return people.add_member(session, actor, project_id, asked, request_id=request_id())


@router.patch(
    "/{project_id}/members/{user_id}",
    dependencies=MANAGE_MEMBERS,
    responses=declared(401, 404, 413, 415, 422, 503),
    openapi_extra=declared_body(MemberChange),
)
def change_member(
    lab: LabDep,
    actor: ActorDep,
    project_id: UUID,
    user_id: UUID,
    asked: Annotated[MemberChange, Depends(body_of(MemberChange))],
) -> MemberView:
    """Give another role. It holds at once, for their sessions and keys too."""
    with lab.transaction() as session:
        return people.change_member(session, actor, project_id, user_id, asked, request_id=request_id())


@router.delete(
    "/{project_id}/members/{user_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=MANAGE_MEMBERS,
    responses=declared(401, 404, 422, 503),
)
def remove_member(lab: LabDep, actor: ActorDep, project_id: UUID, user_id: UUID) -> None:
    with lab.transaction() as session:
        people.remove_member(session, actor, project_id, user_id, request_id=request_id())

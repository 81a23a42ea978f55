"""Files on their way in: announced here, sent to the object store, completed here."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status

from clew_api import uploading
from clew_api.auth import ActorDep, requires
from clew_api.body import MAX_BYTES, body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.params import Cursor, Limit
from clew_api.problems import declared
from clew_lab.catalogue import uploads
from clew_lab.jobs.quotas import require_space
from clew_spec.api import Page
from clew_spec.base import Name
from clew_spec.data_views import PartView, UploadDetail, UploadView
from clew_spec.people import Permission
from clew_spec.uploads import UploadRequest

router = APIRouter(prefix="/uploads", tags=["uploads"], responses=declared(403))
READ = [requires(Permission.RECORD_READ)]
WRITE = [requires(Permission.JOB_SUBMIT)]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={
        200: {"model": UploadDetail, "description": "The upload of the same files, as far as it is there"},
        **declared(401, 409, 413, 415, 422, 503),
    },
    openapi_extra=declared_body(UploadRequest),
)
def announce_upload(
    lab: LabDep,
    actor: ActorDep,
    asked: Annotated[UploadRequest, Depends(body_of(UploadRequest, MAX_BYTES))],
    response: Response,
) -> UploadDetail:
    """Say what will be sent: names, sizes and sha256. The same again goes on with what is there.

    Then ask for links with `POST /api/v1/uploads/{id}/parts`, PUT each part to its link, and complete.
    """
    with lab.transaction() as session:
        if not uploads.announced(session, actor, asked):
            require_space(session, actor.project_id, sum(file.size for file in asked.files), what="upload")
        open_s = lab.settings.keep_open_uploads_s
        view, new = uploads.announce(session, actor, asked, open_s=open_s, request_id=request_id())
    response.status_code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    response.headers["Location"] = f"/api/v1/uploads/{view.id}"
    return view


@router.get("", dependencies=READ, responses=declared(401, 422, 503))
def list_uploads(
    lab: LabDep,
    actor: ActorDep,
    name: Annotated[Name | None, Query(description="only those of this name")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[UploadView]:
    """The project's, newest first, those on their way included."""
    with lab.transaction() as session:
        return uploads.list_uploads(session, actor, name=name, cursor=cursor, limit=limit)


@router.get("/{upload_id}", dependencies=READ, responses=declared(401, 404, 422, 503))
def get_upload(lab: LabDep, actor: ActorDep, upload_id: UUID) -> UploadDetail:
    with lab.transaction() as session:
        return uploads.detail(session, actor, upload_id)


@router.post("/{upload_id}/parts", dependencies=WRITE, responses=declared(401, 404, 422, 503))
def sign_upload_parts(
    lab: LabDep, actor: ActorDep, upload_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[PartView]:
    """The next parts that are missing, each with a link that is valid for 15 minutes and takes exactly its bytes."""
    return uploading.missing_parts(lab, actor, upload_id, cursor=cursor, limit=limit)


@router.post("/{upload_id}/complete", dependencies=WRITE, responses=declared(401, 404, 409, 422, 503))
def complete_upload(lab: LabDep, actor: ActorDep, upload_id: UUID) -> UploadDetail:
    """Join the parts, whose sizes are checked. Jobs can name it from now on; again changes nothing."""
    return uploading.complete(lab, actor, upload_id, request_id=request_id())


@router.delete(
    "/{upload_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=WRITE,
    responses=declared(401, 404, 409, 422, 503),
)
def remove_upload(lab: LabDep, actor: ActorDep, upload_id: UUID) -> None:
    """What jobs made of it stays. Who does not manage the project's jobs can remove their own."""
    with lab.transaction() as session:
        uploads.remove(session, actor, upload_id, request_id=request_id())

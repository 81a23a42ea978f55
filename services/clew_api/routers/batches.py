"""Jobs that belong together: submit a sweep or a pipeline; list, show, cancel and retry them as wholes."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status
from sqlalchemy.orm import Session

from clew_api.auth import ActorDep, requires
from clew_api.batches import admitted_pipeline, admitted_sweep
from clew_api.body import MAX_BATCH_BYTES, body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import Lab, LabDep
from clew_api.params import Cursor, IdempotencyKey, Limit
from clew_api.problems import declared
from clew_lab.catalogue import batch_queries
from clew_lab.catalogue.scope import Actor, batch_of_idempotency_key, get_batch
from clew_lab.jobs.batches import Member, accept_batch, earlier_batch
from clew_lab.jobs.cancel import cancel_batch
from clew_lab.jobs.retry import retry_batch
from clew_spec.api import Page
from clew_spec.batch_views import BatchView
from clew_spec.batches import BatchKind, PipelineRequest, SweepRequest
from clew_spec.people import Permission

router = APIRouter(tags=["batches"], responses=declared(403))
READ = [requires(Permission.JOB_READ)]
EARLIER: dict[int | str, dict[str, Any]] = {200: {"model": BatchView, "description": "What this key made before"}}


@router.post(
    "/sweeps",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_SUBMIT)],
    responses={**EARLIER, **declared(401, 403, 409, 413, 415, 422, 503)},
    openapi_extra=declared_body(SweepRequest),
)
def submit_sweep(
    lab: LabDep,
    actor: ActorDep,
    request: Annotated[SweepRequest, Depends(body_of(SweepRequest, MAX_BATCH_BYTES))],
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    """Queue one job in many ways, up to 10,000: all of them, or none where one of them cannot be.

    Where the spec has a name, the jobs' names are numbered. Each is a new job, whatever has succeeded before.
    """
    return _submit(lab, actor, request, response, idempotency_key)


@router.post(
    "/pipelines",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_SUBMIT)],
    responses={**EARLIER, **declared(401, 403, 409, 413, 415, 422, 503)},
    openapi_extra=declared_body(PipelineRequest),
)
def submit_pipeline(
    lab: LabDep,
    actor: ActorDep,
    request: Annotated[PipelineRequest, Depends(body_of(PipelineRequest, MAX_BATCH_BYTES))],
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    """Queue jobs that refer to each other by `jobs/{name}`: all of them, or none.

    One that refers to another is `blocked` until that has succeeded, and then checked and queued; where that fails or
    is cancelled, it ends in the same way.
    """
    return _submit(lab, actor, request, response, idempotency_key)


@router.get("/batches", dependencies=READ, responses=declared(401, 422, 503))
def list_batches(
    lab: LabDep,
    actor: ActorDep,
    kind: Annotated[BatchKind | None, Query(description="only these")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[BatchView]:
    """Sweeps and pipelines of the project, newest first."""
    with lab.transaction() as session:
        return batch_queries.list_batches(session, actor, kind=kind, cursor=cursor, limit=limit)


@router.get("/batches/{batch_id}", dependencies=READ, responses=declared(401, 404, 422, 503))
def get_one_batch(lab: LabDep, actor: ActorDep, batch_id: UUID) -> BatchView:
    with lab.transaction() as session:
        return _view(session, actor, batch_id)


@router.post(
    "/batches/{batch_id}/cancel",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_CANCEL, Permission.JOB_MANAGE)],
    responses=declared(401, 403, 404, 422, 503),
)
def cancel_whole_batch(lab: LabDep, actor: ActorDep, batch_id: UUID) -> BatchView:
    """Ask all of its jobs that have not ended to stop."""
    with lab.transaction() as session:
        cancel_batch(session, actor, get_batch(session, actor, batch_id), request_id=request_id())
        return _view(session, actor, batch_id)


@router.post(
    "/batches/{batch_id}/retry",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_SUBMIT)],
    responses=declared(401, 403, 404, 409, 422, 503),
)
def retry_whole_batch(lab: LabDep, actor: ActorDep, batch_id: UUID) -> BatchView:
    """Try those of its jobs again that failed or were cancelled, as each would be by itself."""
    with lab.transaction() as session:
        batch = get_batch(session, actor, batch_id)
        retry_batch(session, actor, batch, kept_s=lab.settings.keep_checkpoints_s, request_id=request_id())
        return _view(session, actor, batch_id)


def _submit(
    lab: Lab,
    actor: Actor,
    request: SweepRequest | PipelineRequest,
    response: Response,
    idempotency_key: str | None,
) -> BatchView:
    with lab.transaction() as session:
        known = idempotency_key is not None and batch_of_idempotency_key(session, actor, idempotency_key) is not None
    members: list[Member] = []
    if not known:  # else all this was settled then
        admit = admitted_sweep if isinstance(request, SweepRequest) else admitted_pipeline
        members = admit(lab, actor, request)  # type: ignore[arg-type]  # each has its own kind of request
    with lab.transaction() as session:
        if known:
            batch, created = earlier_batch(session, actor, request, idempotency_key), False
        else:
            batch, created = accept_batch(
                session,
                actor,
                request,
                members,
                idempotency_key=idempotency_key,
                request_id=request_id(),
                code_version=lab.settings.code_version,
            )
        view = _view(session, actor, batch.id)
    response.status_code = status.HTTP_202_ACCEPTED if created else status.HTTP_200_OK
    response.headers["Location"] = f"/api/v1/batches/{view.id}"
    return view


def _view(session: Session, actor: Actor, batch_id: UUID) -> BatchView:
    return batch_queries.batch_view(session, actor, get_batch(session, actor, batch_id))

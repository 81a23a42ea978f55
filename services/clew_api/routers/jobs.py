"""Jobs: submit, list, show, share, cancel, retry."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status

from clew_api.auth import ActorDep, CallerDep, requires
from clew_api.body import MAX_BYTES, body_of, declared_body
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.params import Cursor, IdempotencyKey, Limit
from clew_api.problems import declared
from clew_api.submission import Submission, SubmissionsDep
from clew_lab.catalogue import queries
from clew_lab.jobs.cancel import cancel, cancel_with_dependents
from clew_lab.jobs.retry import retry
from clew_lab.jobs.visibility import show
from clew_spec.api import JobSummary, JobView, Page
from clew_spec.base import Name
from clew_spec.jobs import JobChange, JobKind, JobRequest, JobState
from clew_spec.people import Permission

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=declared(403))
READ = [requires(Permission.JOB_READ)]


# The actor comes before the body, so that who has no key learns nothing else.
@router.post(
    "",
    response_model=JobView,
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_SUBMIT)],
    responses={
        200: {"model": JobView, "description": "The job that this key made before, or that succeeded at the same"},
        **declared(401, 403, 409, 413, 415, 422, 503),
    },
    openapi_extra=declared_body(JobRequest),
)
async def submit_job(
    submissions: SubmissionsDep,
    found: CallerDep,
    request: Annotated[JobRequest, Depends(body_of(JobRequest, MAX_BYTES))],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue a job. Everything that can be known beforehand is checked before.

    Where `reuse` is not refused and a job of the project has succeeded at exactly the same, that one is the answer.
    A spec may refer to a job of the project that has not ended, by its UUID: then the new one waits for it.
    """
    submission = Submission(found.credential, found.actor, request, idempotency_key, request_id())
    view, created = await submissions.ask(submission)
    # As JSON already: to have it validated and written elsewhere takes another thread.
    return Response(
        view.model_dump_json(by_alias=True),
        status.HTTP_202_ACCEPTED if created else status.HTTP_200_OK,
        {"Location": f"/api/v1/jobs/{view.id}"},
        media_type="application/json",
    )


@router.get("", dependencies=READ, responses=declared(401, 422, 503))
def list_jobs(
    lab: LabDep,
    actor: ActorDep,
    state: Annotated[list[JobState] | None, Query(description="any of these states")] = None,
    kind: Annotated[list[JobKind] | None, Query(description="any of these kinds")] = None,
    user: Annotated[Name | None, Query(description="submitted by this person of the project; `me`: by you")] = None,
    batch: Annotated[UUID | None, Query(description="of this sweep or pipeline of the project")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[JobSummary]:
    """Visible jobs, newest first."""
    with lab.transaction() as session:
        return queries.list_jobs(
            session, actor, states=state or (), kinds=kind or (), user=user, batch=batch, cursor=cursor, limit=limit
        )


@router.get("/{job_id}", dependencies=READ, responses=declared(401, 404, 422, 503))
def get_job(lab: LabDep, actor: ActorDep, job_id: UUID) -> JobView:
    with lab.transaction() as session:
        return queries.get_job(session, actor, job_id)


@router.patch(
    "/{job_id}",
    dependencies=[requires(Permission.JOB_SUBMIT, Permission.JOB_MANAGE)],
    responses=declared(401, 404, 413, 415, 422, 503),
    openapi_extra=declared_body(JobChange),
)
def change_job(
    lab: LabDep,
    actor: ActorDep,
    job_id: UUID,
    asked: Annotated[JobChange, Depends(body_of(JobChange))],
    with_inputs: Annotated[bool, Query(description="and the project's own jobs that it was made of")] = False,
) -> JobView:
    """Show the job, with what it made, to the whole lab, or keep it to the project again.

    What others were accepted with while they saw it stays theirs to use. Who does not manage the project's jobs can
    share their own.
    """
    with lab.transaction() as session:
        show(session, actor, job_id, asked.visibility, with_inputs=with_inputs, request_id=request_id())
        return queries.get_job(session, actor, job_id)


@router.post(
    "/{job_id}/cancel",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_CANCEL, Permission.JOB_MANAGE)],
    responses=declared(401, 403, 404, 409, 422, 503),
)
def cancel_job(
    lab: LabDep,
    actor: ActorDep,
    job_id: UUID,
    with_dependents: Annotated[bool, Query(description="and all jobs behind it")] = False,
) -> JobView:
    """Ask for the job to stop. Asking twice is asking once; a job that has ended cannot be cancelled.

    Jobs that wait for it end with it in any case; `with_dependents` also stops those that were made of what it made,
    where it has ended itself. Who does not manage the project's jobs can stop their own.
    """
    with lab.transaction() as session:
        (cancel_with_dependents if with_dependents else cancel)(session, actor, job_id, request_id=request_id())
        return queries.get_job(session, actor, job_id)


@router.post(
    "/{job_id}/retry",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires(Permission.JOB_SUBMIT)],
    responses={
        200: {"model": JobView, "description": "The job that this key made before"},
        **declared(401, 403, 404, 409, 422, 503),
    },
)
def retry_job(
    lab: LabDep,
    actor: ActorDep,
    job_id: UUID,
    response: Response,
    with_dependents: Annotated[bool, Query(description="and jobs that waited for it in vain")] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Try a job again that failed or was cancelled, by a new one that is linked to it.

    It has the same spec and the same inputs, and goes on from the last checkpoint while that is kept.
    """
    with lab.transaction() as session:
        job, created = retry(
            session,
            actor,
            job_id,
            with_dependents=with_dependents,
            kept_s=lab.settings.keep_checkpoints_s,
            idempotency_key=idempotency_key,
            request_id=request_id(),
        )
        view = queries.get_job(session, actor, job.id)
    response.status_code = status.HTTP_202_ACCEPTED if created else status.HTTP_200_OK
    response.headers["Location"] = f"/api/v1/jobs/{view.id}"
    return view

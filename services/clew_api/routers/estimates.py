"""What jobs would take, before they are submitted."""

from typing import Annotated

from fastapi import APIRouter, Depends

from clew_api.auth import ActorDep, requires
from clew_api.batches import considered_pipeline, considered_sweep
from clew_api.body import MAX_BATCH_BYTES, MAX_BYTES, body_of, declared_body
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_api.submission import considered
from clew_spec.api import EstimateView
from clew_spec.batch_views import PipelineEstimate, SweepEstimate
from clew_spec.batches import PipelineRequest, SweepRequest
from clew_spec.jobs import JobRequest
from clew_spec.people import Permission

router = APIRouter(
    prefix="/estimates", tags=["jobs"], dependencies=[requires(Permission.JOB_SUBMIT)], responses=declared(403)
)


@router.post("", responses=declared(401, 403, 413, 415, 422, 503), openapi_extra=declared_body(JobRequest))
def estimate_job(
    lab: LabDep, actor: ActorDep, request: Annotated[JobRequest, Depends(body_of(JobRequest, MAX_BYTES))]
) -> EstimateView:
    """Check a job as its submission would, and say what it would take. Nothing is stored."""
    return considered(lab, actor, request)


@router.post("/sweep", responses=declared(401, 403, 413, 415, 422, 503), openapi_extra=declared_body(SweepRequest))
def estimate_sweep(
    lab: LabDep, actor: ActorDep, request: Annotated[SweepRequest, Depends(body_of(SweepRequest, MAX_BATCH_BYTES))]
) -> SweepEstimate:
    """As of a job: how many jobs a sweep is, what the largest of them takes, and what all publish."""
    return considered_sweep(lab, actor, request)


@router.post(
    "/pipeline", responses=declared(401, 403, 413, 415, 422, 503), openapi_extra=declared_body(PipelineRequest)
)
def estimate_pipeline(
    lab: LabDep,
    actor: ActorDep,
    request: Annotated[PipelineRequest, Depends(body_of(PipelineRequest, MAX_BATCH_BYTES))],
) -> PipelineEstimate:
    """As of a job: what each job of a pipeline takes, and which others it will wait for."""
    return considered_pipeline(lab, actor, request)

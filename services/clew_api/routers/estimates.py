"""What a job would take, before it is submitted."""

from typing import Annotated

from fastapi import APIRouter, Depends

from clew_api.auth import ActorDep, requires
from clew_api.body import body_of, declared_body
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_api.submission import considered
from clew_spec.api import EstimateView
from clew_spec.jobs import JobRequest
from clew_spec.people import Permission

router = APIRouter(
    prefix="/estimates", tags=["jobs"], dependencies=[requires(Permission.JOB_SUBMIT)], responses=declared(403)
)


@router.post("", responses=declared(401, 403, 413, 415, 422, 503), openapi_extra=declared_body(JobRequest))
def estimate_job(
    lab: LabDep, actor: ActorDep, request: Annotated[JobRequest, Depends(body_of(JobRequest))]
) -> EstimateView:
    """Check a job as its submission would, and say what it would take. Nothing is stored."""
    return considered(lab, actor, request)

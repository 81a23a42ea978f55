"""A job's curves."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue.series import MAX_POINTS, MAX_STEP, metric_series, step_times
from clew_spec.api import MetricSeries, StepTime
from clew_spec.people import Permission

router = APIRouter(tags=["metrics"], dependencies=[requires(Permission.JOB_READ)], responses=declared(403))

MetricName = Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f]+$")]


@router.get("/jobs/{job_id}/metrics", responses=declared(401, 404, 422, 503))
def get_metrics(
    lab: LabDep,
    actor: ActorDep,
    job_id: UUID,
    name: Annotated[list[MetricName] | None, Query(max_length=200, description="only these curves")] = None,
    first_step: Annotated[int, Query(ge=0, le=MAX_STEP)] = 0,
    last_step: Annotated[int, Query(ge=0, le=MAX_STEP)] = MAX_STEP,
    max_points: Annotated[int, Query(ge=5, le=MAX_POINTS)] = 1000,
) -> list[MetricSeries]:
    """One value a step. Curves of more points in the range are thinned to `max_points`: the first, the last, and of
    each run its lowest and its highest point stay."""
    with lab.transaction() as session:
        return metric_series(
            session,
            actor,
            job_id,
            names=name or (),
            first_step=first_step,
            last_step=last_step,
            max_points=max_points,
        )


@router.get("/jobs/{job_id}/steps", responses=declared(401, 404, 422, 503))
def get_step_times(
    lab: LabDep, actor: ActorDep, job_id: UUID, max_points: Annotated[int, Query(ge=5, le=MAX_POINTS)] = 1000
) -> list[StepTime]:
    """When the steps of the job's curves were measured, to draw them over time."""
    with lab.transaction() as session:
        return step_times(session, actor, job_id, max_points=max_points)

"""Who works in the lab."""

from fastapi import APIRouter

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_spec.api import WorkerView
from clew_spec.people import Permission

router = APIRouter(
    prefix="/workers", tags=["workers"], dependencies=[requires(Permission.LAB_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 503))
def list_workers(lab: LabDep, actor: ActorDep) -> list[WorkerView]:
    """Workers heard of in the last hour. What another project runs on them is not told."""
    with lab.transaction() as session:
        return queries.list_workers(session, actor)

"""The lab at a glance."""

from fastapi import APIRouter

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.jobs.overview import lab_view
from clew_spec.api import LabView
from clew_spec.people import Permission

router = APIRouter(
    prefix="/lab", tags=["workers"], dependencies=[requires(Permission.LAB_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 503))
def get_lab(lab: LabDep, actor: ActorDep) -> LabView:
    """Workers, pools, and what every project may have of them and had."""
    with lab.transaction() as session:
        return lab_view(session, actor, alive_s=lab.settings.alive_s)

"""Who works in the lab."""

from typing import Annotated

from fastapi import APIRouter, Path, status

from clew_api.auth import ActorDep, requires
from clew_api.context import request_id
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_lab.jobs import workers
from clew_spec.api import WorkerView
from clew_spec.people import Permission

router = APIRouter(
    prefix="/workers", tags=["workers"], dependencies=[requires(Permission.LAB_READ)], responses=declared(403)
)

WorkerName = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


@router.get("", responses=declared(401, 503))
def list_workers(lab: LabDep, actor: ActorDep) -> list[WorkerView]:
    """Workers heard of in the last hour. What another project runs on them is not told."""
    with lab.transaction() as session:
        return queries.list_workers(session, actor)


@router.post(
    "/{name}/drain",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=declared(401, 403, 404, 422, 503),
    dependencies=[requires(Permission.LAB_MANAGE)],
)
def drain_worker(lab: LabDep, actor: ActorDep, name: WorkerName) -> None:
    """Give the worker no more work: it has its job write a checkpoint, gives it back, and ends. For who runs the lab.

    The job waits again and continues elsewhere. A worker that is started again under the name works again.
    """
    with lab.transaction() as session:
        workers.drain_named(session, actor, name, request_id=request_id())

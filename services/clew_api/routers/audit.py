"""Who did what."""

from typing import Annotated

from fastapi import APIRouter, Query

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.params import Limit
from clew_api.problems import declared
from clew_lab.catalogue import audit
from clew_spec.api import AuditView, Page
from clew_spec.people import Permission

router = APIRouter(
    prefix="/audit",
    tags=["people"],
    dependencies=[requires(Permission.AUDIT_READ, Permission.LAB_AUDIT)],
    responses=declared(403),
)
Before = Annotated[
    str | None, Query(max_length=18, pattern=r"^[0-9]+$", description="`next_cursor` of the page before")
]


@router.get("", responses=declared(401, 422, 503))
def list_audit(lab: LabDep, actor: ActorDep, cursor: Before = None, limit: Limit = 50) -> Page[AuditView]:
    """In the project at hand, and to admins of the lab what was done to the lab itself; newest first."""
    with lab.transaction() as session:
        return audit.list_audit(session, actor, before=int(cursor) if cursor else None, limit=limit)

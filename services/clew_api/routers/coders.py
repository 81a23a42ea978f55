"""Coders, one for each layer of a set."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.params import PageOptions
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_spec.api import CoderView, Page
from clew_spec.people import Permission

router = APIRouter(
    prefix="/coders", tags=["coders"], dependencies=[requires(Permission.RECORD_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 422, 503))
def list_coders(
    lab: LabDep,
    actor: ActorDep,
    options: PageOptions,
    model: Annotated[UUID | None, Query(description="only those of this model")] = None,
) -> Page[CoderView]:
    with lab.transaction() as session:
        return queries.list_coders(session, actor, model=model, **options)


@router.get("/{coder_id}", responses=declared(401, 404, 422, 503))
def get_coder(lab: LabDep, actor: ActorDep, coder_id: UUID) -> CoderView:
    with lab.transaction() as session:
        return queries.get_coder(session, actor, coder_id)

"""Models."""

from uuid import UUID

from fastapi import APIRouter

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.params import PageOptions
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_spec.api import ModelView, Page
from clew_spec.people import Permission

router = APIRouter(
    prefix="/models", tags=["models"], dependencies=[requires(Permission.RECORD_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 422, 503))
def list_models(lab: LabDep, actor: ActorDep, options: PageOptions) -> Page[ModelView]:
    with lab.transaction() as session:
        return queries.list_models(session, actor, **options)


@router.get("/{model_id}", responses=declared(401, 404, 422, 503))
def get_model(lab: LabDep, actor: ActorDep, model_id: UUID) -> ModelView:
    with lab.transaction() as session:
        return queries.get_model(session, actor, model_id)

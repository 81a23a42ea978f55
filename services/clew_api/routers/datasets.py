"""Datasets."""

from uuid import UUID

from fastapi import APIRouter

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.params import PageOptions
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_spec.api import DatasetView, Page
from clew_spec.people import Permission

router = APIRouter(
    prefix="/datasets", tags=["datasets"], dependencies=[requires(Permission.RECORD_READ)], responses=declared(403)
)


@router.get("", responses=declared(401, 422, 503))
def list_datasets(lab: LabDep, actor: ActorDep, options: PageOptions) -> Page[DatasetView]:
    with lab.transaction() as session:
        return queries.list_datasets(session, actor, **options)


@router.get("/{dataset_id}", responses=declared(401, 404, 422, 503))
def get_dataset(lab: LabDep, actor: ActorDep, dataset_id: UUID) -> DatasetView:
    with lab.transaction() as session:
        return queries.get_dataset(session, actor, dataset_id)

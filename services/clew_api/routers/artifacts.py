"""A job's files."""

from pathlib import PurePosixPath
from uuid import UUID

from fastapi import APIRouter

from clew_api.auth import ActorDep, requires
from clew_api.lab import LabDep
from clew_api.problems import declared
from clew_lab.catalogue import queries
from clew_spec.api import ArtifactView
from clew_spec.people import Permission

router = APIRouter(tags=["artifacts"], dependencies=[requires(Permission.JOB_READ)], responses=declared(403))


@router.get("/jobs/{job_id}/artifacts", responses=declared(401, 404, 422, 503))
def list_artifacts(lab: LabDep, actor: ActorDep, job_id: UUID) -> list[ArtifactView]:
    """Published files, each with a link that is valid for 15 minutes."""
    with lab.transaction() as session:
        found = queries.artifacts_of(session, actor, job_id)
    return [
        ArtifactView(
            id=artifact.id,
            job_id=artifact.job_id,
            name=artifact.name,
            sha256=artifact.sha256,
            size=artifact.size,
            media_type=artifact.media_type,
            created_at=artifact.created_at,
            url=lab.store.link(artifact.key, download_as=PurePosixPath(artifact.name).name),
        )
        for artifact in found
    ]

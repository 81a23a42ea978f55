"""Sweeps and pipelines for the tests, and what a lab would do with their jobs meanwhile."""

from typing import Any, TypeVar
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.seeds import World
from tests.support.jobs import OOPS

from clew_lab.catalogue.tables import Batch, Job
from clew_lab.jobs import moves
from clew_spec.api import JobView
from clew_spec.base import Spec
from clew_spec.jobs import JobState

S = TypeVar("S", bound=Spec)

V1 = "/api/v1"
TRAIN = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0], "steps": 5}
BUILD = {"kind": "build-dataset", "name": "text", "model": "m", "context": 16}
PIPELINE = {
    "name": "all",
    "jobs": {
        "graph": {"spec": {"kind": "attribute", "name": "g", "coders": "jobs/train", "prompt": "when mary"}},
        "measured": {"spec": {"kind": "evaluate", "coders": "jobs/train"}},
        "train": {"spec": TRAIN | {"dataset": "jobs/text"}, "max_retries": 1},
        "text": {"spec": BUILD},
    },
}


def sweep(**fields: Any) -> dict[str, Any]:
    return {"name": "rates", "spec": TRAIN, "grid": {"optimizer.lr": [1e-3, 1e-4], "steps": [5, 6, 7]}} | fields


def jobs_of(api: TestClient, batch: str) -> list[JobView]:
    """Oldest first, in full."""
    found = api.get(f"{V1}/jobs", params={"batch": batch, "limit": 200}).json()["items"]
    return [JobView.model_validate(api.get(f"{V1}/jobs/{item['id']}").json()) for item in reversed(found)]


def rows(world: World) -> tuple[int, int]:
    with world.sessions() as session:
        jobs, batches = (session.scalar(select(func.count()).select_from(table)) for table in (Job, Batch))
        return int(jobs or 0), int(batches or 0)


def ids_of(api: TestClient, batch: str) -> dict[str, str]:
    """Of a pipeline's jobs, by name."""
    return {job.batch.step: str(job.id) for job in jobs_of(api, batch) if job.batch}


def show(api: TestClient, id: str) -> JobView:
    return JobView.model_validate(api.get(f"{V1}/jobs/{id}").json())


def spec_of(job: JobView, kind: type[S]) -> S:
    """What the job asks for, which is of this kind."""
    assert isinstance(job.spec, kind)
    return job.spec


def make(world: World, id: str, *records: Any) -> None:
    """The job succeeds, and these records are what it made."""
    with world.sessions.begin() as session:
        job = moves.lock(session, UUID(id))
        moves.move(session, job, JobState.DISPATCHED, lease_s=60)
        moves.move(session, job, JobState.RUNNING, lease_s=60)
        moves.move(session, job, JobState.SUCCEEDED)
        for record in records:
            session.merge(record).job_id = job.id


def end(world: World, id: str, state: JobState) -> None:
    with world.sessions.begin() as session:
        job = moves.lock(session, UUID(id))
        if state is JobState.FAILED:
            moves.move(session, job, JobState.DISPATCHED, lease_s=60)
            moves.move(session, job, JobState.RUNNING, lease_s=60)
            job.error = OOPS.model_dump(mode="json", exclude_none=True)
        moves.move(session, job, state)

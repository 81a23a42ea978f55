"""The lab at a glance, where a job stands, and the quotas and requests that a submission is held to."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from tests.clew_api.seeds import Tenant, World
from tests.support.jobs import change_project

from clew_lab.catalogue.tables import Worker
from clew_lab.jobs import dispatch, quotas, standing
from clew_spec.api import JobView, LabView
from clew_spec.errors import Problem

pytestmark = pytest.mark.lab

V1 = "/api/v1"
GIB = 2**30
BUILD: dict[str, Any] = {"kind": "build-dataset", "name": "text", "model": "m"}


def submit(api: TestClient, **fields: Any) -> JobView:
    answer = api.post(f"{V1}/jobs", json={"spec": BUILD, **fields})
    assert answer.status_code == 202, answer.text
    return JobView.model_validate_json(answer.content)


def refused(api: TestClient, status: int, **fields: Any) -> Problem:
    answer = api.post(f"{V1}/jobs", json={"spec": BUILD, **fields})
    assert answer.status_code == status, answer.text
    return Problem.model_validate_json(answer.content)


def worker(world: World, name: str, **fields: Any) -> None:
    world.add(Worker(name=name, **({"pool": "train", "device": "cpu", "memory_bytes": 8 * GIB} | fields)))


def look(world: World) -> None:
    with world.sessions.begin() as session:
        standing.look(session, alive_s=30)


def nothing_waits(world: World) -> None:
    """The jobs that made the records of a world are over."""
    with world.sessions.begin() as session:
        session.execute(text("update jobs set state = 'succeeded', finished_at = now()"))


def test_a_waiting_job_says_where_it_stands(api: TestClient, world: World, alice: Tenant) -> None:
    world.model(alice)
    nothing_waits(world)
    jobs = [submit(api), submit(api)]
    assert [job.standing for job in jobs] == [None, None], "nobody has looked yet"
    look(world)
    for position, job in enumerate(jobs, 1):
        view = JobView.model_validate(api.get(f"{V1}/jobs/{job.id}").json())
        assert view.standing is not None
        assert (view.standing.position, view.standing.cause, view.standing.eta_s) == (position, "no-worker", None)
        assert view.standing.reason == "no worker of the pool train is there"
    listed = {item["id"]: item["standing"] for item in api.get(f"{V1}/jobs").json()["items"]}
    assert [listed[str(job.id)]["position"] for job in jobs] == [1, 2]
    assert api.post(f"{V1}/jobs/{jobs[0].id}/cancel").json()["standing"] is None


def test_the_lab_tells_shares_to_all_and_quotas_to_their_own(
    api: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    model = world.model(alice)
    nothing_waits(world)
    for name in ("a", "b"):
        worker(world, name)
    for owner, weight, most in ((alice, 3.0, 7), (bob, 1.0, 5)):
        with world.sessions.begin() as session:
            change_project(session, owner.project.id, weight=weight, max_in_flight=most, max_stored_bytes=GIB)
            session.execute(text("insert into usage values (:id, 300, now())"), {"id": owner.project.id})
    submit(api)
    with world.sessions.begin() as session:
        assert len(dispatch.dispatch(session, lease_s=30, alive_s=30)) == 1
    submit(api)
    look(world)
    view = LabView.model_validate(api.get(f"{V1}/lab").json())
    assert sorted(each.name for each in view.workers) == ["a", "b"]
    train = next(pool for pool in view.pools if pool.pool == "train")
    assert (train.workers, train.busy, train.waiting) == (2, 1, 1)
    assert train.at is not None
    shares = {each.project: each for each in view.projects}
    mine, theirs = shares["alice"], shares["bob"]
    assert mine.share == pytest.approx(3 / sum(each.weight for each in view.projects))
    assert (mine.in_flight, mine.waiting, mine.max_in_flight, mine.max_stored_bytes) == (1, 1, 7, GIB)
    assert mine.stored_bytes is not None
    assert mine.stored_bytes > 0, f"the files of {model.name}"
    assert mine.used_s == pytest.approx(360, abs=1), "what runs counts"
    assert theirs.used_s == pytest.approx(300, abs=1)
    assert sum(each.used_share for each in view.projects) == pytest.approx(1)
    assert (theirs.max_in_flight, theirs.stored_bytes, theirs.max_stored_bytes) == (None, None, None)


def test_what_no_worker_has_is_refused(api: TestClient, world: World, alice: Tenant) -> None:
    world.model(alice)
    submit(api, requests={"gpus": 1})
    worker(world, "w", cpus=4, ram_bytes=8 * GIB)
    for requests, said in (
        ({"gpus": 1}, "the job needs a GPU, and no worker has one"),
        ({"cpus": 5}, "the job needs 5 CPUs, and no worker has more than 4"),
        ({"memory_bytes": 9 * GIB}, "the job needs about 9.0 GiB of memory, and the largest worker, w, has 8.0 GiB"),
    ):
        problem = refused(api, 422, requests=requests)
        assert (problem.detail, problem.where) == (said, "/requests")
    assert refused(api, 422, requests={"gpus": 2}).where == "/requests/gpus"
    job = submit(api, requests={"cpus": 4, "memory_bytes": 8 * GIB, "gpus": 0})
    with world.sessions() as session:
        row = session.execute(text("select needs_cpus, needs_ram_alone from jobs where id = :id"), {"id": job.id}).one()
    assert tuple(row) == (4, 8 * GIB)


def test_a_full_project_is_told_what_to_delete(api: TestClient, world: World, alice: Tenant, bob: Tenant) -> None:
    world.model(alice)
    with world.sessions() as session:
        stored = quotas.stored_bytes(session, alice.project.id)

    def allow(most: int | None, project_id: UUID = alice.project.id) -> None:
        with world.sessions.begin() as session:
            change_project(session, project_id, max_stored_bytes=most)

    allow(stored + 1)
    allow(0, bob.project.id)
    submit(api)
    allow(stored)
    problem = refused(api, 409)
    assert problem.detail == f"the project alice stores {stored} B; its quota is {stored} B"
    assert "import-model m" in (problem.hint or "")
    allow(None)
    submit(api)
    allow(stored + 100)
    large = {"spec": BUILD | {"max_tokens": 10**6}}
    answer = api.post(f"{V1}/jobs", json=large)
    assert (answer.status_code, "adds about" in answer.json()["detail"]) == (409, True)

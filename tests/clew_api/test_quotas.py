"""A project never holds more than its quota: what its jobs are expected to publish counts from the start."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from tests.clew_api.batches import TRAIN, V1, end, ids_of, make, rows, show
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant, World
from tests.support.jobs import change_project, dataset_result
from tests.support.servers import under_role

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.publish import Uploaded
from clew_lab.catalogue.tables import Attempt, Job
from clew_lab.catalogue.tokenizing import Tokenizers
from clew_lab.jobs import finalise, moves, quotas, report
from clew_lab.jobs.estimates import facts_of
from clew_scheduler.release import release_due
from clew_spec.estimates import estimate
from clew_spec.jobs import JobRequest, JobState

BUILD = {"kind": "build-dataset", "name": "text", "model": "m", "context": 16, "max_tokens": 10**6}
Allow = Callable[[float], int]
"""Lets alice's project have room for so many such builds; returns what one adds."""


@pytest.fixture
def allow(world: World, alice: Tenant) -> Allow:
    inputs = {"model": str(world.model(alice).id)}
    with world.sessions() as session:
        adds = estimate(JobRequest.model_validate({"spec": BUILD}).spec, facts_of(session, inputs)).published_bytes
    assert adds > 2**20

    def allow(builds: float) -> int:
        with world.sessions.begin() as session:
            held = quotas.stored_bytes(session, alice.project.id)
            change_project(session, alice.project.id, max_stored_bytes=held + int(builds * adds))
        return adds

    return allow


@pytest.fixture
def of_worker(database_url: str, world: World) -> Iterator[sessionmaker[Session]]:
    """Under the role that workers have in a lab."""
    engine = make_engine(under_role(database_url, "worker"))
    yield session_factory(engine)
    engine.dispose()


def submit(api: TestClient, status: int = 202, **fields: Any) -> dict[str, Any]:
    answer = api.post(f"{V1}/jobs", json={"spec": BUILD | fields})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def begin(world: World, id: str) -> int:
    """A worker has the job; returns the fence."""
    with world.sessions.begin() as session:
        job = moves.lock(session, UUID(id))
        for state in (JobState.DISPATCHED, JobState.RUNNING):
            moves.move(session, job, state, lease_s=60)
        session.add(Attempt(project_id=job.project_id, job_id=job.id, fence=job.fence))
        return job.fence


def made(size: int) -> Sequence[Uploaded]:
    return [Uploaded("dataset/tokens.bin", f"somewhere/{size}", "1" * 64, size, "application/octet-stream")]


def test_of_jobs_that_come_at_once_as_many_are_taken_as_there_is_room_for(
    running: Running, world: World, alice: Tenant, allow: Allow
) -> None:
    allow(2.2)
    keys = [alice, world.member(alice.project, "other", alice.role)]

    def post(number: int) -> httpx2.Response:
        spec = BUILD | {"name": f"text-{number}"}
        return httpx2.post(f"{running.url}/jobs", json={"spec": spec}, headers=keys[number % 2].auth, timeout=60)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(post, range(12)))
    assert sorted(answer.status_code for answer in answers) == [202] * 2 + [409] * 10
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refused["type"] == "urn:clew:over-quota"
    assert "its jobs that have not ended will add about" in refused["detail"]


def test_one_key_at_once_gets_its_one_job_though_there_is_room_for_no_other(
    running: Running, world: World, alice: Tenant, allow: Allow
) -> None:
    allow(1)
    keys = [alice, world.member(alice.project, "other", alice.role)]

    def post(number: int) -> httpx2.Response:
        headers = keys[number % 2].auth | {"Idempotency-Key": "at-once"}
        return httpx2.post(f"{running.url}/jobs", json={"spec": BUILD}, headers=headers, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]


def test_what_has_ended_makes_room_and_a_retry_takes_it_again(api: TestClient, world: World, allow: Allow) -> None:
    allow(1.5)
    first = submit(api)["id"]
    submit(api, 409)
    end(world, first, JobState.FAILED)
    second = submit(api, name="second")["id"]
    answer = api.post(f"{V1}/jobs/{first}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:clew:over-quota")
    end(world, second, JobState.CANCELLED)
    assert api.post(f"{V1}/jobs/{first}/retry").status_code == 202
    submit(api, 409)


def test_a_batch_is_taken_if_there_is_room_for_all_of_it(api: TestClient, world: World, allow: Allow) -> None:
    allow(3.5)
    before = rows(world)
    pipeline = {"name": "p", "jobs": {f"text-{n}": {"spec": BUILD | {"name": f"text-{n}"}} for n in range(4)}}
    seeds = {"name": "s", "spec": BUILD, "grid": {"heldout_fraction": [0.1, 0.2, 0.3, 0.4]}}
    for path, body in (("pipelines", pipeline), ("sweeps", seeds)):
        answer = api.post(f"{V1}/{path}", json=body)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:clew:over-quota"), answer.text
    assert rows(world) == before
    three = seeds | {"grid": {"heldout_fraction": [0.1, 0.2, 0.3]}}
    batch = api.post(f"{V1}/sweeps", json=three)
    assert batch.status_code == 202
    submit(api, 409)
    for id in ids_of(api, batch.json()["id"]).values():
        end(world, id, JobState.FAILED)
    submit(api)
    answer = api.post(f"{V1}/batches/{batch.json()['id']}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:clew:over-quota")


def test_a_job_whose_inputs_have_come_and_that_finds_no_room_is_told(
    api: TestClient, world: World, alice: Tenant, allow: Allow
) -> None:
    allow(100)
    train = TRAIN | {"dataset": "jobs/text", "coder": {"n_features": 2**12}}
    answer = api.post(f"{V1}/pipelines", json={"name": "p", "jobs": {"text": {"spec": BUILD}, "t": {"spec": train}}})
    ids = ids_of(api, answer.json()["id"])
    make(world, ids["text"], world.dataset(alice, "text"))
    allow(0.0001)
    assert release_due(world.sessions, Tokenizers(world.store.read), world.settings) == 1
    view = show(api, ids["t"])
    assert view.state == JobState.FAILED
    assert view.error is not None
    assert view.error.type == "urn:clew:over-quota"
    allow(100)
    retried = api.post(f"{V1}/jobs/{ids['t']}/retry").json()["id"]
    release_due(world.sessions, Tokenizers(world.store.read), world.settings)
    assert show(api, retried).state == JobState.QUEUED


def test_what_was_expected_is_published_in_any_case_and_more_where_there_is_room(
    api: TestClient, world: World, allow: Allow, of_worker: sessionmaker[Session]
) -> None:
    adds = allow(4)
    as_expected, more = submit(api)["id"], submit(api, name="other")["id"]
    for id, size in ((as_expected, adds), (more, 2 * adds)):
        fence = begin(world, id)
        if id == as_expected:
            allow(0)  # of what it was accepted with nothing is taken away
        else:
            allow(2)
        with of_worker.begin() as session:
            finalise.succeed(session, UUID(id), fence, dataset_result(), made(size))
        assert show(api, id).state == JobState.SUCCEEDED


def test_a_job_that_made_too_much_says_so_and_goes_on_once_there_is_room(
    api: TestClient, world: World, allow: Allow, of_worker: sessionmaker[Session]
) -> None:
    adds = allow(2)
    submit(api, name="waiting")
    id = submit(api)["id"]
    fence = begin(world, id)
    with of_worker.begin() as session:
        report.register_checkpoint(session, UUID(id), fence, 7, [])
    with pytest.raises(quotas.OverQuota) as raised, of_worker.begin() as session:
        finalise.succeed(session, UUID(id), fence, dataset_result(), made(2 * adds))
    assert "delete what is not needed any more" in str(raised.value)
    with of_worker.begin() as session:
        finalise.fail(session, UUID(id), fence, raised.value.problem(), retryable=False)
    assert show(api, id).state == JobState.FAILED
    retried = api.post(f"{V1}/jobs/{id}/retry").json()["id"]
    with world.sessions() as session:
        assert (session.get_one(Job, UUID(retried)).checkpoint or {})["step"] == 7
    allow(3)
    fence = begin(world, retried)
    with of_worker.begin() as session:
        finalise.succeed(session, UUID(retried), fence, dataset_result(), made(2 * adds))
    submit(api, 409, name="third")

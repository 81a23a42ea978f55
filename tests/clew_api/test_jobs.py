"""Submit, list, show, cancel."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Audit, Job
from clew_spec.api import JobView
from clew_spec.jobs import JobRequest
from clew_spec.people import Permission, Role

JOBS = "/api/v1/jobs"


def build(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"spec": {"kind": "build-dataset", "name": "text", "model": model, **fields}}


def count(world: World, table: type[Any]) -> int:
    with world.sessions() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def test_a_submitted_job_is_queued_with_what_its_references_meant(api: TestClient, world: World, alice: Tenant) -> None:
    older, newer = world.model(alice), world.model(alice)
    answer = api.post(JOBS, json=build(), headers={"X-Request-ID": "my-request"})
    assert answer.status_code == 202
    view = JobView.model_validate(answer.json())
    assert answer.headers["location"] == f"{JOBS}/{view.id}"
    assert (view.state, view.project, view.name, view.pool) == ("queued", "alice", "text", "train")
    assert view.parents == [newer.id] != [older.id]
    assert JobRequest.model_validate({"spec": view.spec.model_dump()}) == JobRequest.model_validate(build())
    assert api.get(answer.headers["location"]).json() == answer.json()
    with world.sessions() as session:
        assert session.scalars(select(Audit.request_id).where(Audit.action == "job.accepted")).all() == ["my-request"]


def test_each_kind_of_job_keeps_all_the_records_it_needs(api: TestClient, world: World, alice: Tenant) -> None:
    model, dataset = world.model(alice), world.dataset(alice)
    coders = world.coders(alice, model, dataset)
    ids = [coder.id for coder in coders]
    with world.sessions() as session:
        trained = session.get_one(Job, coders[0].job_id)
    world.touch(trained, kind="train", state="succeeded", finished_at=func.now())
    across = [coder.id for coder in world.coders(alice, model, dataset, "across", layers=(0, 2, 3), crossing=True)]
    train = {"kind": "train", "name": "t", "model": "m", "dataset": str(dataset.id), "layers": [3, 0], "steps": 5}
    attribute = {"kind": "attribute", "name": "g", "coders": "set", "prompt": "when mary and john went home"}
    root = str(world.settings.import_roots[0])
    texts = {"kind": "text", "path": f"{root}/texts"}
    for spec, parents in (
        ({"kind": "build-dataset", "name": "b", "model": "m", "source": texts}, [model.id]),
        ({"kind": "import-model", "name": "i", "path": f"{root}/llama"}, []),
        (train, [model.id, dataset.id]),
        ({"kind": "evaluate", "coders": "set"}, [model.id, dataset.id, *ids]),
        ({"kind": "evaluate", "coders": str(coders[0].job_id), "dataset": "d"}, [model.id, dataset.id, *ids]),
        ({"kind": "evaluate", "coders": str(ids[1])}, [model.id, dataset.id, ids[1]]),
        (attribute, [model.id, *ids]),
        (attribute | {"coders": "across"}, [model.id, *across]),
        (attribute | {"targets": [" mary", "and"], "minus": "john", "position_0": "left-out"}, [model.id, *ids]),
    ):
        answer = api.post(JOBS, json={"spec": spec})
        assert answer.status_code == 202, answer.text
        view = JobView.model_validate(answer.json())
        assert view.parents == parents == [one for ids_of_field in view.inputs.values() for one in ids_of_field]
        assert view.inputs.get("coders", []) == [parent for parent in parents if parent not in (model.id, dataset.id)]


def test_an_idempotency_key_makes_one_job(api: TestClient, world: World, alice: Tenant, bob: Tenant) -> None:
    world.model(alice)
    world.model(bob)
    key = {"Idempotency-Key": "once"}
    first = api.post(JOBS, json=build(), headers=key)
    world.model(alice)  # the name means another model now, but the request is the same
    again = api.post(JOBS, json=build(context=256), headers=key)  # the default, spelled out
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    other = api.post(JOBS, json=build(context=32), headers=key)
    assert other.status_code == 409
    assert other.json()["type"] == "urn:clew:conflict"
    assert api.post(JOBS, json=build(), headers=key | bob.auth).status_code == 202, "keys are each project's own"
    assert api.post(JOBS, json=build()).status_code == 202
    assert api.post(JOBS, json=build(), headers={"Idempotency-Key": "x" * 129}).status_code == 422
    assert api.post(JOBS, json=build(), headers={b"Idempotency-Key": "caf\u00e9".encode("latin-1")}).status_code == 422


def test_one_job_comes_of_many_requests_at_once(running: Running, world: World, alice: Tenant) -> None:
    world.model(alice)
    headers = alice.auth | {"Idempotency-Key": "at-once"}

    def submit(_: int) -> httpx2.Response:
        return httpx2.post(f"{running.url}/jobs", json=build(), headers=headers, timeout=30)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(submit, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_cancelling_is_idempotent_and_ends_with_the_job(api: TestClient, world: World, alice: Tenant) -> None:
    world.model(alice)
    url = api.post(JOBS, json=build()).headers["location"]
    for _ in range(2):
        answer = api.post(f"{url}/cancel")
        assert answer.status_code == 202
        assert answer.json()["state"] == "cancelled"
    done = world.job(alice, state="succeeded", finished_at=func.now())
    assert api.post(f"{JOBS}/{done.id}/cancel").status_code == 409
    assert api.post(f"{JOBS}/{uuid4()}/cancel").status_code == 404


def test_pages_neither_repeat_nor_miss_while_jobs_arrive(api: TestClient, world: World, alice: Tenant) -> None:
    there = [str(world.job(alice).id) for _ in range(7)]
    seen, cursor = [], None
    while True:
        page = api.get(JOBS, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        world.job(alice)
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == there[::-1]


def test_lists_filter_by_state_and_kind(api: TestClient, world: World, alice: Tenant) -> None:
    done = world.job(alice, state="succeeded", finished_at=func.now())
    failed = world.job(alice, state="failed", finished_at=func.now(), kind="train")
    world.job(alice)

    def listed(**params: Any) -> list[str]:
        return [item["id"] for item in api.get(JOBS, params=params).json()["items"]]

    assert len(listed()) == 3
    assert listed(state=["succeeded", "failed"]) == [str(failed.id), str(done.id)]
    assert listed(state=["succeeded", "failed"], kind="train") == [str(failed.id)]


def test_a_bad_question_is_told_where(api: TestClient) -> None:
    questions: list[tuple[dict[str, Any], str]] = [
        ({"cursor": "nonsense"}, "/query/cursor"),
        ({"cursor": "a" * 500}, "/query/cursor"),
        ({"cursor": "\0"}, "/query/cursor"),
        ({"limit": 0}, "/query/limit"),
        ({"limit": 201}, "/query/limit"),
        ({"state": "asleep"}, "/query/state/0"),
        ({"kind": "dance"}, "/query/kind/0"),
    ]
    for params, where in questions:
        answer = api.get(JOBS, params=params)
        assert (answer.status_code, answer.json()["where"]) == (422, where)


def test_a_job_says_who_submitted_it_to_those_who_see_that_person(
    anyone: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    world.model(alice)
    carol = world.member(alice.project, "carol", Role.MEMBER)
    _, key = world.key(alice.project, None, "nightly", scopes=[Permission.JOB_SUBMIT, Permission.JOB_READ])
    root = world.member(bob.project, "root", Role.VIEWER, admin=True)
    robot = {"Authorization": f"Bearer {key}"}
    submitted = {}
    for who, headers in (("alice", alice.auth), ("carol", carol.auth), (None, robot)):
        answer = anyone.post(JOBS, json={**build(), "visibility": "lab"}, headers=headers).json()
        assert answer["user"] == who
        submitted[answer["id"]] = who

    def told(headers: dict[str, str], **params: str) -> dict[str, str | None]:
        listed = anyone.get(JOBS, params={"kind": "build-dataset", **params}, headers=headers).json()["items"]
        shown = {job["id"]: job["user"] for job in listed}
        for id, user in shown.items():
            assert anyone.get(f"{JOBS}/{id}", headers=headers).json()["user"] == user
        return shown

    assert told(alice.auth) == told(carol.auth) == told(robot) == told(root.auth) == submitted
    assert told(bob.auth) == dict.fromkeys(submitted), "whose project this is not sees the jobs, and no names"
    ids = {who: id for id, who in submitted.items()}
    assert told(alice.auth, user="carol") == told(carol.auth, user="me") == {ids["carol"]: "carol"}
    assert told(alice.auth, user="me", state="queued") == {ids["alice"]: "alice"}
    assert told(robot, user="me") == {ids[None]: None}
    assert told(alice.auth, user="bob") == told(bob.auth, user="carol") == told(bob.auth, user="me") == {}
    assert anyone.get(JOBS, params={"user": "a\0"}, headers=alice.auth).status_code == 422


def test_jobs_of_a_sweep_are_listed_by_person(api: TestClient, world: World, alice: Tenant) -> None:
    carol = world.member(alice.project, "carol", Role.MEMBER)
    job = world.job(alice, user_id=carol.user_id)
    batch = world.batch(alice, job)
    for user, found in (("carol", 1), ("me", 0)):
        params = {"batch": str(batch.id), "user": user, "kind": "import-model", "state": "queued"}
        assert len(api.get(JOBS, params=params).json()["items"]) == found

"""No one sees what is not theirs, and what others show may be read and not changed."""

from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Job

V1 = "/api/v1"
PUBLIC = {
    ("GET", f"{V1}/health"),
    ("GET", f"{V1}/health/live"),
    ("GET", f"{V1}/health/ready"),
    ("POST", f"{V1}/session"),
}
OF_THE_LAB = {
    ("GET", f"{V1}/users/{{user_id}}"),
    ("PATCH", f"{V1}/users/{{user_id}}"),
    ("PATCH", f"{V1}/projects/{{project_id}}"),
    ("POST", f"{V1}/workers/{{name}}/drain"),
}
"""Its admins' alone: others are refused before anything is looked up."""
OF_ONES_OWN = {("PUT", f"{V1}/secrets/{{name}}"), ("DELETE", f"{V1}/secrets/{{name}}")}
"""What they name is always of the project at hand: `test_secrets` has two projects with the same name there."""
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", f"{V1}/jobs/{{job_id}}"): {"visibility": "project"},
    ("PATCH", f"{V1}/users/{{user_id}}"): {},
    ("PATCH", f"{V1}/projects/{{project_id}}"): {},
    ("POST", f"{V1}/projects/{{project_id}}/members"): {"user": "alice", "role": "viewer"},
    ("PATCH", f"{V1}/projects/{{project_id}}/members/{{user_id}}"): {"role": "viewer"},
}
"""Good ones, of routes that look into the body before they look anything up."""


def furnish(world: World, owner: Tenant, visibility: str) -> dict[str, UUID]:
    """One of everything; by the name of the path's parameter."""
    model = world.model(owner, visibility=visibility)
    dataset = world.dataset(owner, visibility=visibility)
    coder = world.coders(owner, model, dataset, visibility=visibility)[0]
    graph = world.graph(owner, model, visibility=visibility)
    ids = {"model_id": model.id, "dataset_id": dataset.id, "coder_id": coder.id, "graph_id": graph.id}
    people = {"project_id": owner.project.id, "user_id": owner.user_id, "key_id": owner.key_id}
    with world.sessions() as session:
        batch = world.batch(owner, session.get_one(Job, graph.job_id))
    mine = {"job_id": graph.job_id, "batch_id": batch.id, "upload_id": world.upload(owner).id}
    return ids | people | mine


def routes(app: FastAPI) -> list[tuple[str, str]]:
    document = app.openapi()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def test_without_a_key_there_is_nothing(anyone: TestClient, app: FastAPI, world: World, alice: Tenant) -> None:
    ids = furnish(world, alice, "lab")
    private = [route for route in routes(app) if route not in PUBLIC]
    assert len(private) >= 20
    wrong = [
        {},
        {"Authorization": "Bearer clew_wrong"},
        {"Authorization": f"Bearer {alice.key[:-1]}{'0' if alice.key[-1] != '0' else '1'}"},
        {"Authorization": f"Basic {alice.key}"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Cookie": "clew_session=wrong"},
    ]
    for method, path in private:
        for headers in wrong:
            answer = anyone.request(method, path.format(**ids, name="w"), headers=headers, content=b"{")
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_foreign_thing_is_told_from_none_nowhere(api: TestClient, app: FastAPI, world: World, bob: Tenant) -> None:
    foreign, nothing = furnish(world, bob, "project"), {}
    for name in foreign:
        nothing[name] = uuid4()
    tried = 0
    for method, path in routes(app):
        if "{" not in path or (method, path) in OF_THE_LAB | OF_ONES_OWN:
            continue
        tried += 1
        answers = []
        for ids in (foreign, nothing):
            answer = api.request(method, path.format(**ids), json=BODIES.get((method, path)))
            text = answer.text
            for id in ids.values():
                text = text.replace(str(id), "<id>")
            answers.append((answer.status_code, text.replace(answer.headers["x-request-id"], "<request>")))
        assert answers[0] == answers[1]
        assert answers[0][0] == (403 if (method, path) in OF_THE_LAB else 404), (method, path)
    assert tried >= 10
    for path in ("jobs", "models", "datasets", "coders", "graphs", "batches", "uploads"):
        assert api.get(f"{V1}/{path}").json() == {"items": [], "next_cursor": None}
    assert api.get(f"{V1}/stream", params={"job": str(foreign["job_id"])}).status_code == 404
    for params in ({"job": str(foreign["job_id"])}, {"model": str(foreign["model_id"])}, {"name": "set"}):
        assert api.get(f"{V1}/coders", params=params).json()["items"] == []


def test_a_foreign_thing_cannot_be_used_by_name_or_id(api: TestClient, world: World, bob: Tenant) -> None:
    foreign = furnish(world, bob, "project")
    for spec in (
        {"kind": "build-dataset", "name": "x", "model": str(foreign["model_id"])},
        {"kind": "build-dataset", "name": "x", "model": "m"},
        {"kind": "evaluate", "coders": str(foreign["coder_id"])},
        {"kind": "evaluate", "coders": "set"},
    ):
        answer = api.post(f"{V1}/jobs", json={"spec": spec})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:clew:invalid-spec")


def test_what_is_shown_to_the_lab_may_be_read_and_not_changed(
    api: TestClient, app: FastAPI, world: World, alice: Tenant, bob: Tenant
) -> None:
    shown = furnish(world, bob, "lab")
    hidden = {"project_id", "user_id", "key_id", "batch_id", "upload_id"}
    for method, path in routes(app):
        if (
            method == "GET"
            and "{" in path
            and not path.endswith("/events")
            and not any(f"{{{id}}}" in path for id in hidden)
        ):
            assert api.get(path.format(**shown)).status_code == 200, path
    for action in ("cancel", "retry"):
        assert api.post(f"{V1}/jobs/{shown['job_id']}/{action}").status_code == 404
    assert api.get(f"{V1}/jobs/{shown['job_id']}").json()["batch"] is None, "what it came with is not shown"
    assert {job["batch"] for job in api.get(f"{V1}/jobs").json()["items"]} == {None}
    assert api.get(f"{V1}/jobs", params={"batch": str(shown["batch_id"])}).json()["items"] == []
    view = api.get(f"{V1}/models/{shown['model_id']}").json()
    assert (view["project"], view["visibility"]) == ("bob", "lab")
    assert api.post(f"{V1}/jobs", json={"spec": {"kind": "evaluate", "coders": "set"}}).status_code == 202

    mine = world.model(alice)
    world.model(bob, visibility="lab")  # newer, of the same name: it may not stand in for one's own
    spec = {"kind": "build-dataset", "name": "x", "model": "m"}
    assert api.post(f"{V1}/jobs", json={"spec": spec}).json()["parents"] == [str(mine.id)]


def test_coders_that_are_shown_without_their_model_are_refused(api: TestClient, world: World, bob: Tenant) -> None:
    model, dataset = world.model(bob), world.dataset(bob, visibility="lab")
    world.coders(bob, model, dataset, visibility="lab")
    answer = api.post(f"{V1}/jobs", json={"spec": {"kind": "evaluate", "coders": "set"}})
    assert (answer.status_code, answer.json()["where"]) == (422, "/spec/coders")
    assert "model of these coders is not visible" in answer.json()["detail"]

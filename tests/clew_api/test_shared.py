"""A job and what it made, shown to the whole lab and kept to the project again."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Audit, Job
from clew_spec.people import Role

V1 = "/api/v1"


@pytest.fixture
def chain(world: World, alice: Tenant) -> dict[str, Any]:
    """A graph, the coders it is made of, and their model and dataset, each of a job of its own."""
    model, dataset = world.model(alice), world.dataset(alice)
    coders = world.coders(alice, model, dataset)
    graph = world.graph(alice, model)
    made_of = {"model": str(model.id), "dataset": str(dataset.id)}
    with world.sessions.begin() as session:
        session.get_one(Job, dataset.job_id).inputs = {"model": str(model.id)}
        session.get_one(Job, coders[0].job_id).inputs = made_of
        session.get_one(Job, graph.job_id).inputs = {
            "model": str(model.id),
            "coders": [str(each.id) for each in coders],
        }
    return {"models": model, "datasets": dataset, "coders": coders[1], "graphs": graph}


def share(api: TestClient, job_id: UUID, to: str = "lab", code: int = 200, **options: Any) -> dict[str, Any]:
    headers = options.pop("headers", None)
    answer = api.patch(f"{V1}/jobs/{job_id}", json={"visibility": to}, params=options, headers=headers)
    assert answer.status_code == code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def seen(api: TestClient, reader: Tenant, chain: dict[str, Any]) -> set[str]:
    """Which of the records this one may read: each in its list, by its id and by its job, or in none of them."""
    found = set()
    for table, record in chain.items():
        listed = api.get(f"{V1}/{table}", headers=reader.auth).json()["items"]
        paths = (f"{table}/{record.id}", f"jobs/{record.job_id}", f"jobs/{record.job_id}/artifacts")
        ways = {api.get(f"{V1}/{path}", headers=reader.auth).status_code == 200 for path in paths}
        ways.add(str(record.id) in {each["id"] for each in listed})
        assert len(ways) == 1, table
        if ways == {True}:
            found.add(table)
    return found


def test_what_is_shown_can_be_read_and_used_by_all_until_it_is_kept(
    api: TestClient, world: World, bob: Tenant, chain: dict[str, Any]
) -> None:
    graph = chain["graphs"]
    measure = {"spec": {"kind": "evaluate", "coders": str(chain["coders"].id)}}
    assert seen(api, bob, chain) == set()
    assert share(api, graph.job_id)["visibility"] == "lab"
    assert seen(api, bob, chain) == {"graphs"}

    share(api, graph.job_id, with_inputs=True)
    assert seen(api, bob, chain) == set(chain)
    accepted = api.post(f"{V1}/jobs", json=measure, headers=bob.auth)
    assert accepted.status_code == 202, accepted.text

    # Others may read it and not change it, nor show it on.
    share(api, graph.job_id, "project", 404, headers=bob.auth)
    share(api, graph.job_id, "project")
    assert seen(api, bob, chain) == set(chain) - {"graphs"}
    share(api, graph.job_id, "project", with_inputs=True)
    assert seen(api, bob, chain) == set()
    assert api.post(f"{V1}/jobs", json=measure, headers=bob.auth).status_code == 422
    # What was accepted meanwhile goes on.
    assert api.get(f"{V1}/jobs/{accepted.json()['id']}", headers=bob.auth).json()["state"] == "queued"

    with world.sessions() as session:
        rows = session.scalars(select(Audit).where(Audit.action == "job.visibility_changed").order_by(Audit.id)).all()
    told = [(row.target, row.data and row.data["visibility"]) for row in rows]
    assert told[0] == (str(graph.job_id), "lab")
    assert (len(told), len(set(told))) == (8, 8), "each change once, and what was so already is none"


def test_one_shares_ones_own_and_who_manages_the_project_shares_any(
    api: TestClient, world: World, alice: Tenant, chain: dict[str, Any]
) -> None:
    member, other, viewer, maintainer = (
        world.member(alice.project, name, role)
        for name, role in (
            ("m", Role.MEMBER), ("o", Role.MEMBER), ("v", Role.VIEWER), ("k", Role.MAINTAINER),
        )
    )  # fmt: skip
    graph = chain["graphs"]
    with world.sessions.begin() as session:
        session.get_one(Job, graph.job_id).user_id = member.user_id
        session.get_one(Job, chain["coders"].job_id).user_id = other.user_id
    for who in (other, viewer):
        share(api, graph.job_id, code=403, headers=who.auth)
    share(api, graph.job_id, headers=member.auth)
    share(api, graph.job_id, "project", headers=member.auth)

    # All of it or nothing: the coders are another's.
    share(api, graph.job_id, code=403, with_inputs=True, headers=member.auth)
    states = {name: api.get(f"{V1}/jobs/{record.job_id}").json()["visibility"] for name, record in chain.items()}
    assert set(states.values()) == {"project"}
    share(api, graph.job_id, with_inputs=True, headers=maintainer.auth)


def test_what_else_is_asked_is_refused(api: TestClient, chain: dict[str, Any]) -> None:
    job_id = chain["graphs"].job_id
    for body in ({}, {"visibility": "world"}, {"visibility": None}, {"visibility": "lab", "name": "mine"}):
        answer = api.patch(f"{V1}/jobs/{job_id}", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")

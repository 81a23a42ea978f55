"""Users, projects, members and keys: who may make, change and end which."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from tests.clew_api.seeds import Tenant, World

from clew_api.app import PUBLIC
from clew_api.auth import declared_permissions, refuse_undeclared, requires
from clew_lab.catalogue import keys
from clew_lab.catalogue.tables import ApiKey, Audit, Worker
from clew_lab.jobs import dispatch, workers
from clew_spec.people import PERMISSIONS, Permission, Role

V1 = "/api/v1"
JOB = {"spec": {"kind": "import-model", "name": "m2", "path": "/models/m2"}}
Ask = Callable[..., Any]


@pytest.fixture
def chief(world: World, alice: Tenant) -> Tenant:
    """An admin of the lab, who only watches alice's project."""
    return world.member(alice.project, "chief", Role.VIEWER, admin=True)


@pytest.fixture
def ask(anyone: TestClient) -> Ask:
    """Asks with somebody's key; gives the answer's JSON, once its status is the one that is expected."""

    def ask(who: Tenant | str, method: str, path: str, body: dict[str, Any] | None = None, status: int = 200) -> Any:
        key = who if isinstance(who, str) else who.key
        answer = anyone.request(method, V1 + path, json=body, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return ask


def test_a_route_that_asks_for_nothing_keeps_the_api_from_starting(app: FastAPI) -> None:
    router = APIRouter()

    @router.get("/open")
    def open_to_all() -> None: ...

    with pytest.raises(RuntimeError, match=r"open_to_all .* declares no permission"):
        refuse_undeclared(router.routes, PUBLIC)
    router.routes.clear()
    router.get("/open", dependencies=[requires(Permission.JOB_READ)])(open_to_all)
    refuse_undeclared(router.routes, PUBLIC)


def test_what_changes_something_asks_for_more_than_reading(app: FastAPI) -> None:
    from clew_api.app import PEOPLE, ROUTERS

    own = {"close_session", "change_session", "change_password"}
    for module in (*ROUTERS, *PEOPLE):
        for route in module.router.routes:
            changes = route.methods - {"GET", "HEAD"}
            if changes and route.name not in PUBLIC | own:
                asked = [one for each in declared_permissions(route) for one in each]
                assert any(not permission.endswith(":read") for permission in asked), route.name


def test_each_role_may_what_it_may(ask: Ask, world: World, alice: Tenant, chief: Tenant) -> None:
    """By hand, apart from the table that decides it."""
    project = f"/projects/{alice.project.id}"
    people = {role: world.member(alice.project, f"a-{role}", role) for role in Role}
    job = world.job(alice)
    tried: list[tuple[str, str, dict[str, Any] | None, set[Role], int]] = [
        ("GET", "/jobs", None, set(Role), 200),
        ("GET", "/models", None, set(Role), 200),
        ("GET", "/workers", None, set(Role), 200),
        ("GET", f"{project}/members", None, set(Role), 200),
        ("POST", "/keys", {"name": "mine"}, set(Role), 201),
        ("POST", "/jobs", JOB | {"spec": JOB["spec"] | {"path": "/nowhere"}}, set(Role) - {Role.VIEWER}, 422),
        ("POST", f"/jobs/{job.id}/cancel", None, {Role.MAINTAINER, Role.ADMIN}, 202),
        ("POST", f"{project}/members", {"user": "nobody", "role": "viewer"}, {Role.ADMIN}, 422),
        ("GET", "/audit", None, {Role.ADMIN}, 200),
        ("POST", "/keys", {"name": "s", "service": True, "scopes": ["job:read"]}, {Role.ADMIN}, 201),
        ("GET", "/users", None, set(), 200),
        ("POST", "/users", {"name": "eve"}, set(), 201),
        ("POST", "/projects", {"name": "more"}, set(), 201),
        ("PATCH", project, {"weight": 100}, set(), 200),
        ("PATCH", project, {"max_in_flight": 100, "max_stored_bytes": None}, set(), 200),
    ]
    for method, path, body, allowed, good in tried:
        for role, person in people.items():
            problem = ask(person, method, path, body, status=good if role in allowed else 403)
            if role not in allowed:
                assert problem["expected"].startswith("the permission `"), problem
    ask(chief, "GET", "/users")
    ask(chief, "PATCH", project, {"weight": 100})
    ask(chief, "POST", "/jobs", JOB, status=403)


def test_a_member_cancels_their_own_jobs_with_whichever_key(ask: Ask, world: World, alice: Tenant) -> None:
    ann, ben = (world.member(alice.project, name, Role.MEMBER) for name in ("ann", "ben"))
    other_key = ask(ann, "POST", "/keys", {"name": "laptop"}, status=201)["key"]
    job = world.job(alice, user_id=ann.user_id, created_by=ann.key_id)
    ask(ben, "POST", f"/jobs/{job.id}/cancel", status=403)
    assert ask(other_key, "POST", f"/jobs/{job.id}/cancel", status=202)["state"] == "cancelled"


def test_a_lab_gets_people_projects_and_members(ask: Ask, world: World, alice: Tenant, chief: Tenant) -> None:
    eve = ask(chief, "POST", "/users", {"name": "eve", "display_name": " E\u0301ve "}, status=201)
    assert (eve["display_name"], eve["has_password"], eve["projects"]) == ("Éve", False, [])
    ask(chief, "POST", "/users", {"name": "eve"}, status=409)
    project = ask(chief, "POST", "/projects", {"name": "maze", "weight": 2, "admin": "eve"}, status=201)
    assert (project["members"], project["weight"], project["role"]) == (1, 2.0, None)
    ask(chief, "POST", "/projects", {"name": "maze"}, status=409)
    assert ask(chief, "POST", "/projects", {"name": "other", "admin": "nobody"}, status=422)["where"] == "/admin"
    members = f"/projects/{project['id']}/members"
    assert [(one["name"], one["role"]) for one in ask(chief, "GET", members)] == [("eve", "admin")]
    ask(alice, "GET", members, status=404)
    ask(chief, "POST", members, {"user": "alice", "role": "viewer"}, status=201)
    ask(chief, "POST", members, {"user": "alice", "role": "admin"}, status=409)
    assert ask(chief, "PATCH", f"{members}/{alice.user_id}", {"role": "member"})["role"] == "member"
    ask(chief, "DELETE", f"{members}/{alice.user_id}", status=204)
    ask(chief, "DELETE", f"{members}/{alice.user_id}", status=404)
    assert ask(chief, "GET", "/users?name=eve")["items"][0]["projects"][0]["role"] == "admin"
    assert ask(chief, "GET", f"/users/{eve['id']}")["name"] == "eve"
    ask(chief, "GET", f"/users/{uuid4()}", status=404)
    assert {one["name"] for one in ask(chief, "GET", "/projects")["items"]} == {"alice", "maze"}
    assert [one["name"] for one in ask(alice, "GET", "/projects")["items"]] == ["alice"]


def test_what_is_done_is_on_record_in_the_same_transaction(
    ask: Ask, world: World, alice: Tenant, bob: Tenant, chief: Tenant
) -> None:
    members = f"/projects/{alice.project.id}/members"
    ask(alice, "POST", members, {"user": "bob", "role": "viewer"}, status=201)
    ask(alice, "PATCH", f"{members}/{bob.user_id}", {"role": "member"})
    ask(alice, "PATCH", f"{members}/{uuid4()}", {"role": "member"}, status=404)
    key = ask(alice, "POST", "/keys", {"name": "k"}, status=201)
    ask(alice, "POST", f"/keys/{key['id']}/rotate")
    ask(alice, "DELETE", f"/keys/{key['id']}", status=204)
    ask(chief, "POST", "/users", {"name": "eve", "password": "thread of ariadne"}, status=201)
    ask(chief, "POST", "/projects", {"name": "maze"}, status=201)

    def seen(who: Tenant) -> list[tuple[str, str, str | None]]:
        return [(row["action"], row["target"], row["user"]) for row in ask(who, "GET", "/audit")["items"]]

    assert seen(alice)[:5] == [
        ("key.revoked", key["id"], "alice"),
        ("key.rotated", key["id"], "alice"),
        ("key.created", key["id"], "alice"),
        ("member.changed", str(bob.user_id), "alice"),
        ("member.added", str(bob.user_id), "alice"),
    ]
    assert [row[0] for row in seen(chief)] == ["project.created", "user.created"], "the lab's own, and no project's"
    assert str(alice.user_id) not in str(seen(bob))
    pages = ask(alice, "GET", "/audit?limit=2")
    older = ask(alice, "GET", f"/audit?limit=2&cursor={pages['next_cursor']}")
    assert [row["id"] for row in pages["items"]] > [row["id"] for row in older["items"]]
    with world.sessions() as session:
        assert "ariadne" not in str([vars(row) for row in session.scalars(select(Audit))])


def test_who_acts_in_no_project_is_on_the_labs_record(
    anyone: TestClient, ask: Ask, world: World, alice: Tenant, chief: Tenant
) -> None:
    world.add(Worker(name="box", pool="train", device="cpu", memory_bytes=1))
    ask(alice, "DELETE", f"/projects/{alice.project.id}/members/{chief.user_id}", status=204)
    ask(chief, "POST", "/workers/box/drain", status=204)
    own = {"Cookie": f"clew_session={world.sign_in(chief.user_id)[1]}", "Sec-Fetch-Site": "same-origin"}
    assert [anyone.delete(f"{V1}/session", headers=own).status_code for _ in range(2)] == [204, 401]
    rows = [(row["action"], row["target"], row["user"], row["project"]) for row in ask(chief, "GET", "/audit")["items"]]
    assert rows == [
        ("session.closed", str(chief.user_id), "chief", None),
        ("worker.drain_requested", "box", "chief", None),
    ]
    assert "box" not in str(ask(alice, "GET", "/audit"))


def test_a_key_is_shown_once_and_can_be_told_by_its_ending(ask: Ask, world: World, alice: Tenant) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = ask(alice, "POST", "/keys", {"name": "nightly", "scopes": ["job:read"], "expires_at": until}, status=201)
    assert keys.well_formed(made["key"])
    listed = ask(alice, "GET", "/keys")["items"][0]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["hint"], listed["live"], listed["scopes"]) == (made["key"][-4:], True, ["job:read"])
    with world.sessions() as session:
        assert made["key"] not in str([vars(row) for row in session.scalars(select(ApiKey))])


def test_a_rotated_key_is_another_secret_and_the_same_key(anyone: TestClient, ask: Ask, alice: Tenant) -> None:
    made = ask(alice, "POST", "/keys", {"name": "k", "scopes": ["job:read"]}, status=201)
    anyone.post(f"{V1}/session", json={"key": made["key"]})
    turned = ask(alice, "POST", f"/keys/{made['id']}/rotate")
    assert {**turned, "key": 0, "hint": 0} == {**made, "key": 0, "hint": 0}
    assert ask(turned["key"], "GET", "/session")["permissions"] == ["job:read"]
    ask(made["key"], "GET", "/session", status=401)
    assert anyone.get(f"{V1}/session").status_code == 401, "a session of the old secret"
    ask(alice, "DELETE", f"/keys/{made['id']}", status=204)
    ask(alice, "DELETE", f"/keys/{made['id']}", status=204)
    ask(turned["key"], "GET", "/session", status=401)
    ask(alice, "POST", f"/keys/{made['id']}/rotate", status=409)


def test_a_key_never_makes_a_stronger_one(ask: Ask, world: World, alice: Tenant) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    weak = ask(
        alice, "POST", "/keys", {"name": "weak", "scopes": ["job:read", "key:create"], "expires_at": until}, status=201
    )
    ask(weak["key"], "POST", "/keys", {"name": "x", "scopes": ["job:submit"]}, status=403)
    ask(weak["key"], "POST", "/keys", {"name": "x", "service": True, "scopes": ["job:read"]}, status=403)
    child = ask(weak["key"], "POST", "/keys", {"name": "x"}, status=201)
    assert child["scopes"] == ["job:read", "key:create"]
    assert child["expires_at"] == weak["expires_at"]
    ask(weak["key"], "POST", f"/keys/{alice.key_id}/rotate", status=403)
    lasting = ask(alice, "POST", "/keys", {"name": "lasting", "scopes": ["job:read"]}, status=201)
    ask(weak["key"], "POST", f"/keys/{lasting['id']}/rotate", status=403)
    ask(weak["key"], "POST", f"/keys/{child['id']}/rotate")
    ask(weak["key"], "POST", f"/keys/{weak['id']}/rotate")
    ask(alice, "POST", "/keys", {"name": "x", "scopes": ["user:manage"]}, status=403)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert ask(alice, "POST", "/keys", {"name": "x", "expires_at": past}, status=422)["where"] == "/expires_at"
    assert ask(alice, "POST", "/keys", {"name": "x", "service": True}, status=422)["where"] == "/scopes"


def test_an_admin_revokes_a_members_key_and_cannot_become_them(ask: Ask, world: World, alice: Tenant) -> None:
    ben = world.member(alice.project, "ben", Role.MEMBER)
    ann = world.member(alice.project, "ann", Role.MEMBER)
    assert [key["user"] for key in ask(ben, "GET", "/keys")["items"]] == ["ben"]
    for method, path in (("POST", f"/keys/{ben.key_id}/rotate"), ("DELETE", f"/keys/{ben.key_id}")):
        ask(ann, method, path, status=404)
    assert {key["user"] for key in ask(alice, "GET", "/keys")["items"]} == {"alice", "ann", "ben"}
    ask(alice, "POST", f"/keys/{ben.key_id}/rotate", status=403)
    ask(alice, "DELETE", f"/keys/{ben.key_id}", status=204)
    ask(ben, "GET", "/session", status=401)


def test_a_service_key_outlives_its_maker_and_a_persons_does_not(
    ask: Ask, world: World, alice: Tenant, chief: Tenant
) -> None:
    ann = world.member(alice.project, "ann", Role.ADMIN)
    scopes = ["job:read", "record:read"]
    service = ask(ann, "POST", "/keys", {"name": "ci", "service": True, "scopes": scopes}, status=201)
    assert service["user"] is None
    ask(chief, "PATCH", f"/users/{ann.user_id}", {"disabled": True})
    ask(ann, "GET", "/jobs", status=401)
    assert ask(service["key"], "GET", "/session")["permissions"] == scopes
    ask(service["key"], "GET", "/jobs")
    assert {key["name"]: key["live"] for key in ask(alice, "GET", "/keys")["items"]}["ann's key"] is False
    ask(chief, "PATCH", f"/users/{ann.user_id}", {"disabled": False})
    ask(ann, "GET", "/jobs")


def test_a_role_that_is_taken_away_is_gone_at_once(ask: Ask, alice: Tenant, world: World) -> None:
    ann = world.member(alice.project, "ann", Role.ADMIN)
    member = f"/projects/{alice.project.id}/members/{ann.user_id}"
    ask(alice, "PATCH", member, {"role": "viewer"})
    assert ask(ann, "GET", "/session")["permissions"] == sorted(PERMISSIONS[Role.VIEWER])
    ask(ann, "PATCH", member, {"role": "admin"}, status=403)
    ask(alice, "DELETE", member, status=204)
    gone = ask(ann, "GET", "/session")
    assert (gone["project"], gone["permissions"]) == (None, [])
    for path in ("/jobs", "/models", "/keys", "/projects", "/workers"):
        ask(ann, "GET", path, status=403)


def test_quotas_are_given_changed_one_by_one_and_lifted(ask: Ask, alice: Tenant, bob: Tenant, chief: Tenant) -> None:
    def of(project: dict[str, Any]) -> tuple[Any, ...]:
        return project["weight"], project["max_in_flight"], project["max_stored_bytes"]

    made = ask(chief, "POST", "/projects", {"name": "maze", "max_in_flight": 2, "max_stored_bytes": 2**40}, status=201)
    assert of(made) == (1, 2, 2**40)
    project = f"/projects/{made['id']}"
    for change, expected in (
        ({"max_in_flight": 0}, (1, 0, 2**40)),
        ({"weight": 3}, (3, 0, 2**40)),
        ({"max_stored_bytes": None, "weight": None}, (3, 0, None)),
        ({"max_in_flight": None}, (3, None, None)),
    ):
        assert of(ask(chief, "PATCH", project, change)) == expected
        assert of(ask(chief, "GET", project)) == expected
    told = [row["data"] for row in ask(chief, "GET", "/audit")["items"] if row["target"] == made["id"]]
    assert told[:4] == [{"max_in_flight": None}, {"max_stored_bytes": None}, {"weight": 3}, {"max_in_flight": 0}]
    for wrong in (-1, 2**60, 1.5, "many"):
        for field in ("max_in_flight", "max_stored_bytes"):
            assert ask(chief, "PATCH", project, {field: wrong}, status=422)["where"] == f"/{field}"
    ask(bob, "PATCH", f"/projects/{alice.project.id}", {"max_in_flight": 1}, status=403)
    ask(chief, "PATCH", f"/projects/{uuid4()}", {"max_in_flight": 1}, status=404)
    assert of(ask(alice, "GET", f"/projects/{alice.project.id}")) == (1, None, None)


def test_a_quota_holds_from_the_next_decision_on(ask: Ask, world: World, alice: Tenant, chief: Tenant) -> None:
    def dispatched() -> int:
        with world.sessions.begin() as session:
            return len(dispatch.dispatch(session, lease_s=30, alive_s=30))

    world.model(alice)
    build = {"spec": {"kind": "build-dataset", "name": "text", "model": "m"}}
    ask(chief, "PATCH", f"/projects/{alice.project.id}", {"max_in_flight": 1})
    for name in ("v", "w"):
        with world.sessions.begin() as session:
            workers.register(session, name, "train", device="cpu", memory_bytes=2**40)
        ask(alice, "POST", "/jobs", build, status=202)
    assert (dispatched(), dispatched()) == (1, 0)
    ask(chief, "PATCH", f"/projects/{alice.project.id}", {"max_in_flight": None})
    assert dispatched() == 1


def test_the_lab_keeps_an_admin(ask: Ask, world: World, alice: Tenant, chief: Tenant) -> None:
    for change in ({"admin": False}, {"disabled": True}):
        ask(chief, "PATCH", f"/users/{chief.user_id}", change, status=409)
    ask(chief, "PATCH", f"/users/{alice.user_id}", {"admin": True})
    ask(alice, "PATCH", f"/users/{chief.user_id}", {"disabled": True})
    ask(chief, "GET", "/session", status=401)
    ask(alice, "PATCH", f"/users/{alice.user_id}", {"disabled": True}, status=409)


def test_nobody_raises_themselves(ask: Ask, world: World, alice: Tenant, bob: Tenant) -> None:
    """By role, by platform, by a field that is not theirs, in a project of others."""
    ann = world.member(alice.project, "ann", Role.MAINTAINER)
    members = f"/projects/{alice.project.id}/members"
    ask(ann, "PATCH", f"{members}/{ann.user_id}", {"role": "admin"}, status=403)
    ask(ann, "POST", members, {"user": "ann", "role": "admin"}, status=403)
    ask(ann, "PATCH", f"/users/{ann.user_id}", {"admin": True}, status=403)
    ask(alice, "PATCH", f"/users/{alice.user_id}", {"admin": True}, status=403)
    ask(alice, "POST", f"/projects/{bob.project.id}/members", {"user": "alice", "role": "admin"}, status=404)
    ask(ann, "PATCH", "/session", {"project": "bob"}, status=403)
    for field in ("role", "user_id", "project_id", "admin", "key"):
        assert ask(ann, "POST", "/keys", {"name": "x", field: "admin"}, status=422)["where"] == f"/{field}"
    for scope in ("*", "job", "job:*", "JOB:READ"):
        assert ask(ann, "POST", "/keys", {"name": "x", "scopes": [scope]}, status=422)["where"] == "/scopes/0"

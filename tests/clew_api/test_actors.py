"""Whoever asks for whatever: no answer tells of a foreign row, and none is changed."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update
from tests.clew_api.seeds import Tenant, World
from tests.clew_api.test_scope import PUBLIC, furnish, routes

from clew_lab.catalogue import keys
from clew_lab.catalogue.scope import NOWHERE
from clew_lab.catalogue.tables import ApiKey, Base, Membership, Secret, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.people import PERMISSIONS, Permission, Role

PROJECTS = ("red", "green", "blue")
UNENDING = ("/events", "/stream")
OWN = [table for table in Base.metadata.sorted_tables if "project_id" in table.columns and table.name != "sessions"]
"""Tables whose rows are a project's."""
SECRET = "HF_TOKEN"
OF_PEOPLE = {"memberships", "audit"}
"""Which admins of the lab may write for any project."""


@dataclass
class Asker:
    name: str
    headers: dict[str, str]
    lab_admin: bool = False
    out: bool = False
    """Its key or session has ended: nothing at all is answered."""


@dataclass
class Lab:
    """Three projects with everything in them, private and shown, and everyone who might ask."""

    world: World
    projects: dict[str, UUID] = field(default_factory=dict)
    private: dict[str, set[str]] = field(default_factory=dict)
    """By project, what no answer to others may have in it."""
    pools: dict[str, list[UUID | str]] = field(default_factory=lambda: {"name": [SECRET]})
    """By path parameter, ids of all projects; and the name of a secret that each of them has."""
    askers: list[Asker] = field(default_factory=list)

    def ask(self, name: str, key: str, **fields: Any) -> None:
        self.askers.append(Asker(name, {"Authorization": f"Bearer {key}"}, **fields))

    def fingerprint(self, project: UUID, lab_admin: bool) -> dict[str, str]:
        """Of all rows of the project, but for when its keys were used."""
        found = {}
        with self.world.sessions() as session:
            for table in OWN:
                if lab_admin and table.name in OF_PEOPLE:
                    continue
                without = "- 'last_used_at'" if table.name == "api_keys" else ""
                rows = f"(to_jsonb(t) {without})::text"
                query = (
                    f"select md5(string_agg({rows}, ',' order by {rows})) from {table.name} t where project_id = :id"  # noqa: S608
                )
                found[table.name] = session.scalar(text(query), {"id": project})
        return found

    def here(self, asker: Asker) -> UUID | None:
        """The project that this asker acts in, told independently of the API."""
        secret_key = self.world.settings.secret_key
        with self.world.sessions() as session:
            if "Cookie" in asker.headers:
                wanted = keys.digest(secret_key, asker.headers["Cookie"].partition("=")[2])
                return session.scalar(select(BrowserSession.project_id).where(BrowserSession.digest == wanted))
            wanted = keys.digest(secret_key, asker.headers["Authorization"].removeprefix("Bearer "))
            return session.scalar(select(ApiKey.project_id).where(ApiKey.digest == wanted))


def make_lab(world: World) -> Lab:
    lab = Lab(world)
    tenants: list[Tenant] = []
    for name in PROJECTS:
        owner = world.tenant(name)
        tenants.append(owner)
        lab.projects[name] = owner.project.id
        world.add(Secret(project_id=owner.project.id, name=SECRET, sealed=f"{name}'s"))
        shown, hidden = furnish(world, owner, "lab"), furnish(world, owner, "project")
        for ids in (shown, hidden):
            for parameter, id in ids.items():
                lab.pools.setdefault(parameter, []).append(id)
        lab.private[name] = {str(id) for parameter, id in hidden.items() if parameter not in ("project_id", "user_id")}
        lab.ask(f"{name}'s admin", owner.key)
        for role in (Role.VIEWER, Role.MEMBER, Role.MAINTAINER):
            member = world.member(owner.project, f"{name}-{role}", role)
            lab.pools["user_id"].append(member.user_id)
            lab.pools["key_id"].append(member.key_id)
            lab.ask(f"{name}'s {role}", member.key)
        for scopes in (
            PERMISSIONS[Role.ADMIN],
            {Permission.RECORD_READ},
            {Permission.KEY_CREATE, Permission.KEY_MANAGE},
        ):
            lab.ask(f"{name}'s own key for {sorted(scopes)}", world.key(owner.project, None, scopes=scopes)[1])
        row, ended = world.key(owner.project, None, scopes=PERMISSIONS[Role.ADMIN])
        world.revoke(Tenant(owner.project, ended, row.id, owner.user_id))
        lab.ask(f"{name}'s revoked key", ended, out=True)
        _, ended = world.key(
            owner.project, None, scopes=PERMISSIONS[Role.ADMIN], expires_at=datetime.now(UTC) - timedelta(seconds=1)
        )
        lab.ask(f"{name}'s expired key", ended, out=True)
        gone = world.member(owner.project, f"{name}-gone", Role.ADMIN)
        with world.sessions.begin() as session:
            session.execute(update(User).where(User.id == gone.user_id).values(disabled_at=func.now()))
        lab.ask(f"{name}'s disabled admin", gone.key, out=True)
    world.add(Membership(project_id=tenants[1].project.id, user_id=tenants[0].user_id, role="viewer"))
    chief = world.member(tenants[2].project, "chief", Role.VIEWER, admin=True)
    lab.ask("the lab's admin", chief.key, lab_admin=True)
    for name, user in (("red's admin by password", tenants[0].user_id), ("the lab's admin by password", chief.user_id)):
        headers = {"Cookie": f"clew_session={world.sign_in(user)[1]}", "Sec-Fetch-Site": "same-origin"}
        lab.askers.append(Asker(name, headers, lab_admin=user == chief.user_id))
    return lab


BODIES: dict[str, list[dict[str, Any]]] = {
    "submit_job": [
        {"spec": {"kind": "evaluate", "coders": "{coder_id}"}},
        {"spec": {"kind": "faithfulness", "graph": "{graph_id}"}},
    ],
    "submit_sweep": [
        {"name": "s", "spec": {"kind": "evaluate", "coders": "{coder_id}"}, "grid": {"tokens": [16, 32]}},
        {
            "name": "s",
            "spec": {"kind": "evaluate", "coders": "set"},
            "grid": {"coders": ["{coder_id}", "{job_id}"], "dataset": ["{dataset_id}", "{job_id}"]},
        },
    ],
    "submit_pipeline": [
        {
            "name": "p",
            "jobs": {
                "text": {"spec": {"kind": "build-dataset", "name": "x", "model": "{model_id}"}},
                "measured": {"spec": {"kind": "evaluate", "coders": "{coder_id}", "dataset": "jobs/text"}},
            },
        }
    ],
    "estimate_job": [{"spec": {"kind": "build-dataset", "name": "x", "model": "{model_id}"}}],
    "change_job": [{"visibility": "project"}],
    "change_session": [{"project": name} for name in PROJECTS],
    "change_password": [{"password": "wrong", "new_password": "thread of ariadne"}],
    "create_user": [{"name": "eve"}, {"name": "red"}],
    "change_user": [{"display_name": "Eve"}, {"admin": False}],
    "create_project": [{"name": "black"}, {"name": "red"}],
    "change_project": [{"weight": 2}],
    "add_member": [{"user": f"{name}-viewer", "role": "admin"} for name in PROJECTS],
    "change_member": [{"role": role} for role in ("viewer", "admin")],
    "set_secret": [{"value": "hf_ariadne"}],
    "create_key": [
        {"name": "k"},
        {"name": "s", "service": True, "scopes": ["job:read"]},
        {"name": "e", "scopes": list(Permission)},
    ],
}


BODIES |= {f"estimate_{kind}": BODIES[f"submit_{kind}"] for kind in ("sweep", "pipeline")}


def filled(value: Any, ids: dict[str, UUID | str]) -> Any:
    """The body with ids in the places that are named for them."""
    match value:
        case dict():
            return {key: filled(inner, ids) for key, inner in value.items()}
        case list():
            return [filled(inner, ids) for inner in value]
        case str():
            return value.format(**ids)
    return value


def test_no_one_reaches_what_is_not_theirs(anyone: TestClient, app: FastAPI, world: World) -> None:
    """400 requests of anyone to any route, with ids of anything: what is foreign is neither told nor touched."""
    lab = make_lab(world)
    operations = {
        (method, path): app.openapi()["paths"][path][method.lower()]
        for method, path in routes(app)
        if (method, path) not in PUBLIC and not path.endswith(UNENDING)
    }
    reached = {"done": 0, "refused": 0, "hidden": 0}

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        asker = data.draw(st.sampled_from(lab.askers), "asker")
        method, path = data.draw(st.sampled_from(sorted(operations)), "route")
        ids = {name: data.draw(st.sampled_from([*pool, uuid4()]), name) for name, pool in lab.pools.items()}
        params: dict[str, str] = {}
        if path.count("/") == 3 and method == "GET":
            params = data.draw(
                st.sampled_from([{}, *({name: str(ids[f"{name}_id"])} for name in ("job", "model", "batch"))])
            )
        body = None
        if bodies := BODIES.get(operations[method, path]["operationId"]):
            body = filled(data.draw(st.sampled_from(bodies), "body"), ids)
        here = lab.here(asker)
        others = {name: id for name, id in lab.projects.items() if id != here}
        before = {name: lab.fingerprint(id, asker.lab_admin) for name, id in others.items()}

        answer = anyone.request(method, path.format(**ids), params=params, json=body, headers=asker.headers)

        assert answer.status_code < 500, answer.text
        assert str(answer.status_code) in operations[method, path]["responses"]
        assert {name: lab.fingerprint(id, asker.lab_admin) for name, id in others.items()} == before
        asked = f"{path.format(**ids)} {params} {body}"
        foreign = set().union(*(lab.private[name] for name in others))
        assert not [id for id in foreign if id in answer.text and id not in asked]
        if asker.out:
            assert answer.status_code == 401
        kind = "done" if answer.is_success else "hidden" if answer.status_code == 404 else "refused"
        reached[kind] += 1

    check()
    assert min(reached.values()) >= 20, reached


def test_nobody_is_nowhere(world: World) -> None:
    """The project of who acts in none has no rows, so that its scope is empty by itself."""
    make_lab(world)
    with world.sessions() as session:
        for table in OWN:
            query = select(func.count()).select_from(table).where(table.c.project_id == NOWHERE)
            assert session.scalar(query) == 0

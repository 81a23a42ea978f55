"""What people may send that is not what it should be: where it fails, and that nothing of it reaches the log raw."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.seeds import Tenant, World

from clew_lab import logs
from clew_lab.catalogue.tables import ApiKey, Project, User
from clew_spec.people import Permission, Role

V1 = "/api/v1"


@pytest.fixture
def chief(world: World, alice: Tenant) -> Tenant:
    return world.member(alice.project, "chief", Role.ADMIN, admin=True)


def count(world: World) -> list[int | None]:
    with world.sessions() as session:
        return [session.scalar(select(func.count()).select_from(table)) for table in (User, Project, ApiKey)]


ODD = {
    "a NUL": "a\0b",
    "a newline": "a\nb",
    "an escape": "\x1b[2J",
    "text that runs backwards": "\u202ecod.exe",
    "nothing to see": "\u200b\u200b",
    "too long": "x" * 101,
    "nothing": "",
    "spaces": "   ",
    "a number": 5,
    "a list": ["a"],
}


@pytest.mark.parametrize("what", ODD)
def test_odd_names_are_refused_where_they_stand(anyone: TestClient, world: World, chief: Tenant, what: str) -> None:
    before = count(world)
    for path, field, body in (
        ("/users", "name", {}),
        ("/users", "display_name", {"name": "eve"}),
        ("/projects", "name", {}),
        ("/projects", "admin", {"name": "maze"}),
        ("/keys", "name", {}),
    ):
        answer = anyone.post(V1 + path, json=body | {field: ODD[what]}, headers=chief.auth)
        assert (answer.status_code, answer.json().get("where", "")[: len(field) + 1]) == (422, f"/{field}"), answer.text
    assert count(world) == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"name": "' + b"x" * 2**20 + b'"}', 413),
        (b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 422),
        (b'{"name": "\xff"}', 422),
        (b'{"name": "\\ud800"}', 422),
        (b'{"name": "eve", "name": "ada"}', 422),
        (b'{"name": "eve", "weight": NaN}', 422),
        (b'{"name": "eve", "weight": 1e999}', 422),
        (b"", 422),
        (b"null", 422),
    ],
)
def test_json_that_is_too_large_too_deep_or_none(
    anyone: TestClient, world: World, chief: Tenant, content: bytes, status: int
) -> None:
    before = count(world)
    for path in ("/users", "/projects", "/keys", f"/projects/{chief.project.id}/members"):
        headers = chief.auth | {"Content-Type": "application/json"}
        answer = anyone.post(V1 + path, content=content, headers=headers)
        assert answer.status_code == status, (path, answer.text)
    stranger = anyone.post(f"{V1}/session", content=content, headers={"Content-Type": "application/json"})
    assert stranger.status_code == status
    assert count(world) == before


def test_a_key_that_ended_and_a_key_for_something_else(anyone: TestClient, world: World, alice: Tenant) -> None:
    _, expired = world.key(
        alice.project, None, scopes=[*Permission], expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    row, revoked = world.key(alice.project, None, scopes=[*Permission])
    world.revoke(Tenant(alice.project, revoked, row.id, alice.user_id))
    for key in (expired, revoked):
        assert anyone.get(f"{V1}/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 401
        assert anyone.post(f"{V1}/session", json={"key": key}).status_code == 401
    _, narrow = world.key(alice.project, None, scopes=[Permission.RECORD_READ])
    auth = {"Authorization": f"Bearer {narrow}"}
    assert anyone.get(f"{V1}/models", headers=auth).status_code == 200
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/stream"), ("GET", "/keys"), ("GET", "/users")):
        answer = anyone.request(method, V1 + path, headers=auth)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:clew:forbidden"), path


def test_scopes_of_another_version_give_nothing(anyone: TestClient, world: World, alice: Tenant) -> None:
    odd: list[Any] = ["everything", "record:read", "*"]
    _, key = world.key(alice.project, None, scopes=odd)
    found = anyone.get(f"{V1}/session", headers={"Authorization": f"Bearer {key}"}).json()
    assert found["permissions"] == ["record:read"]
    _, key = world.key(alice.project, None)
    assert anyone.get(f"{V1}/session", headers={"Authorization": f"Bearer {key}"}).json()["permissions"] == []


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the API writes to its log, as it does where nobody watches."""
    root = logging.getLogger()
    before, level, configured = root.handlers[:], root.level, structlog.get_config()
    written = io.StringIO()
    logs.configure("api")
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield written
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.configure(**configured)


def test_nobody_writes_lines_of_their_own_into_the_log(anyone: TestClient, alice: Tenant, lines: io.StringIO) -> None:
    forged = '\n{"event": "request", "user": "root", "status": 200}\r\n\x1b[2Jfine'
    encoded = "".join(f"%{byte:02X}" for byte in forged.encode())
    anyone.get(f"{V1}/jobs/{encoded}", headers=alice.auth)
    anyone.get(f"/{encoded}")
    anyone.post(f"{V1}/session", json={"name": forged, "password": "wrong"})
    anyone.get(f"{V1}/jobs", headers={"X-Request-ID": "x" * 500})
    anyone.get(f"{V1}/jobs", params={"cursor": forged}, headers=alice.auth)
    text = lines.getvalue()
    assert "\x1b" not in text
    assert "\\u001b" not in text, "not even for who decodes it onto a terminal"
    written = [json.loads(line) for line in text.splitlines()]
    assert len(written) >= 5
    assert not [line for line in written if line.get("user") == "root"]
    assert [line for line in written if unquote(line.get("path", "")).endswith(forged)], "told, as what it is"
    assert alice.key not in text

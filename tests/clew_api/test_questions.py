"""Whatever is asked, in the address or the headers: an answer or a problem, never a 5xx."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clew_api.seeds import Tenant, World
from tests.clew_api.test_scope import furnish

from clew_spec.errors import Problem

ENDLESS = ("/events", "/stream")
OF_THE_LAB = "/api/v1/users"
"""Its admins' alone: an admin of a project is refused, whatever is asked."""

odd = st.sampled_from(
    [
        "",
        "\0",
        "%",
        "\u202e",
        "\U0001f9f6",
        "-1",
        "0",
        "5",
        "1e3",
        "9" * 30,
        str(2**63),
        "null",
        "'; --",
        "../..",
        "a" * 999,
    ]
)
values = odd | st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass").decode("latin-1"))
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=150)


@pytest.fixture
def asked(api: TestClient, app: FastAPI, world: World, alice: Tenant) -> tuple[TestClient, list[Any], dict[str, UUID]]:
    """The client, every question of the contract as (path, names of its parameters), and things to ask about."""
    paths = app.openapi()["paths"]
    questions = [
        (path, [p["name"] for p in methods["get"].get("parameters", []) if p["in"] == "query"])
        for path, methods in paths.items()
        if "get" in methods and not path.endswith(ENDLESS)
    ]
    return api, questions, furnish(world, alice, "project")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_question_breaks_the_api(asked: tuple[TestClient, list[Any], dict[str, UUID]], data: st.DataObject) -> None:
    api, questions, ids = asked
    path, names = data.draw(st.sampled_from(questions))
    parts = {name: quote(data.draw(st.just(str(id)) | values), safe="") for name, id in ids.items()}
    query: Any = data.draw(st.lists(st.tuples(st.sampled_from([*names, "other"]), values), max_size=4))
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["If-None-Match", "X-Request-ID", "Accept", "Range"]), header_values, max_size=2
        )
    )
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = api.get(path.format(**parts), params=query, headers=encoded)
    assert answer.status_code in ((403,) if path.startswith(OF_THE_LAB) else (200, 304, 404, 422)), answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = Problem.model_validate(answer.json())
        assert problem.status == answer.status_code
        if problem.status == 422:
            assert problem.where is not None
            assert problem.where.split("/")[1] in ("query", "path")


strange = header_values | st.sampled_from(
    [
        *("http://[", "http://]", "http://[::1", "//", "http://clew.test:x", "http://clew.test/", "null"),
        *("Bearer", "Bearer \xff", "Basic eDp5", "clew_session", "clew_session=", 'clew_session="\\', "=;=", ","),
    ]
)
SPOKEN = [
    *("Authorization", "Cookie", "Origin", "Host", "Sec-Fetch-Site"),
    *("Idempotency-Key", "X-Request-ID", "Last-Event-ID", "If-None-Match", "Range"),
]
DOORS = [
    *(("GET", "/jobs"), ("POST", "/jobs"), ("POST", "/sweeps"), ("GET", "/stream"), ("GET", "/audit")),
    *(("POST", "/session"), ("GET", "/session"), ("DELETE", "/session"), ("PUT", "/session/password")),
]


def knock(client: TestClient, door: tuple[str, str], headers: dict[str, str]) -> int:
    method, path = door
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = client.request(method, f"/api/v1{path}", json={"key": "clew_"}, headers=encoded)
    assert Problem.model_validate(answer.json()).status == answer.status_code
    return answer.status_code


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(door=st.sampled_from(DOORS), headers=st.dictionaries(st.sampled_from(SPOKEN), strange, min_size=1))
def test_no_strange_header_opens_the_door(anyone: TestClient, door: tuple[str, str], headers: dict[str, str]) -> None:
    signs_in = door == ("POST", "/session")
    elsewhere = signs_in and not headers.keys().isdisjoint(("Origin", "Sec-Fetch-Site"))
    assert knock(anyone, door, headers) == (403 if elsewhere else 401)


@pytest.fixture
def cookie(anyone: TestClient, alice: Tenant) -> str:
    anyone.post("/api/v1/session", json={"key": alice.key})
    return f"clew_session={anyone.cookies['clew_session']}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    door=st.sampled_from([door for door in DOORS if door[0] != "GET"]),
    headers=st.dictionaries(st.sampled_from(sorted({*SPOKEN} - {"Authorization", "Cookie"})), strange),
)
def test_with_a_cookie_a_strange_origin_is_a_foreign_one(
    anyone: TestClient, cookie: str, door: tuple[str, str], headers: dict[str, str]
) -> None:
    anyone.cookies.clear()
    signs_in = door == ("POST", "/session") and headers.keys().isdisjoint(("Origin", "Sec-Fetch-Site"))
    assert knock(anyone, door, headers | {"Cookie": cookie}) == (401 if signs_in else 403)

"""Keys and sessions: what is stored, what is remembered, what ends when."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from tests.clew_api.seeds import Tenant, World
from tests.support.servers import Lab
from tests.support.waiting import until

from clew_lab.catalogue import keys
from clew_lab.catalogue.tables import ApiKey
from clew_lab.catalogue.tables import Session as BrowserSession

SESSION, JOBS = "/api/v1/session", "/api/v1/jobs"
HERE = {"Origin": "http://clew.test"}


def set_key(world: World, tenant: Tenant, **fields: Any) -> None:
    with world.sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.id == tenant.key_id).values(**fields))


def key_row(world: World, tenant: Tenant) -> ApiKey:
    with world.sessions() as session:
        return session.scalars(select(ApiKey).where(ApiKey.id == tenant.key_id)).one()


def test_neither_a_key_nor_a_cookie_is_stored(anyone: TestClient, world: World, alice: Tenant) -> None:
    anyone.post(SESSION, json={"key": alice.key})
    cookie = anyone.cookies["clew_session"]
    with world.sessions() as session:
        rows = [*session.scalars(select(ApiKey)), *session.scalars(select(BrowserSession))]
    stored = str([vars(row) for row in rows])
    assert alice.key not in stored
    assert cookie not in stored
    assert key_row(world, alice).hint == alice.key[-4:]
    assert keys.well_formed(alice.key)
    assert not keys.well_formed(alice.key.swapcase())


def test_a_cookie_stands_for_the_key_until_it_is_given_back(anyone: TestClient, alice: Tenant) -> None:
    opened = anyone.post(SESSION, json={"key": alice.key})
    assert opened.status_code == 200
    flags = opened.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/"} <= set(flags)
    assert "secure" not in flags
    assert anyone.get(SESSION).json() == opened.json()
    assert opened.json()["project"] == "alice"
    cookie = anyone.cookies["clew_session"]
    assert anyone.delete(SESSION, headers=HERE).status_code == 204
    assert "clew_session" not in anyone.cookies
    assert anyone.get(SESSION, headers={"Cookie": f"clew_session={cookie}"}).status_code == 401


def test_over_tls_the_cookie_stays_there(anyone: TestClient, alice: Tenant) -> None:
    opened = anyone.post(f"https://clew.test{SESSION}", json={"key": alice.key})
    assert "secure" in opened.headers["set-cookie"].lower().split("; ")


@pytest.mark.parametrize(("trusted", "secure"), [("192.0.2.0/24", False), ("192.0.2.1,127.0.0.0/8", True)])
def test_only_a_trusted_proxy_says_that_the_browser_came_over_tls(
    make_lab: Callable[..., Lab], alice: Tenant, trusted: str, secure: bool
) -> None:
    lab = make_lab(trusted_proxies=trusted)
    url = f"http://127.0.0.1:{lab.settings.api_port}"
    with subprocess.Popen([sys.executable, "-m", "clew_api"], env=os.environ | lab.environ) as api:
        try:
            until(lambda: _answers(url), "the API answers", seconds=60)
            over_tls = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
            opened = httpx2.post(url + SESSION, json={"key": alice.key}, headers=over_tls, timeout=30)
            assert opened.status_code == 200
            assert ("secure" in opened.headers["set-cookie"].lower().split("; ")) == secure
        finally:
            api.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url + SESSION, timeout=5).status_code == 401
    except httpx2.TransportError:
        return False


def test_only_our_own_pages_act_with_the_cookie(anyone: TestClient, alice: Tenant) -> None:
    anyone.post(SESSION, json={"key": alice.key})
    pages: list[tuple[dict[str, str], int]] = [
        ({}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Host": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", **HERE}, 403),
        (HERE, 422),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
    ]
    for headers, status in pages:
        assert anyone.post(JOBS, json={}, headers=headers).status_code == status, headers
        assert anyone.get(JOBS, headers=headers).status_code == 200, "reading is free"
        assert anyone.post(JOBS, json={}, headers=headers | alice.auth).status_code == 422, "a key needs no origin"


def test_a_wrong_key_opens_nothing(anyone: TestClient, alice: Tenant) -> None:
    for key in ("", "x", alice.key + "x", keys.new_key(), "clew_" + "é" * 43):
        answer = anyone.post(SESSION, json={"key": key})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    assert anyone.post(SESSION, json={"key": 5}).json()["where"] == "/key"


def test_keys_and_their_sessions_end(anyone: TestClient, world: World, alice: Tenant) -> None:
    anyone.post(SESSION, json={"key": alice.key})
    past = datetime.now(UTC) - timedelta(seconds=1)
    for end in ({"revoked_at": func.now()}, {"expires_at": past}):
        set_key(world, alice, revoked_at=None, expires_at=None)
        assert anyone.get(SESSION).status_code == anyone.get(SESSION, headers=alice.auth).status_code == 200
        set_key(world, alice, **end)
        assert anyone.get(SESSION).status_code == anyone.get(SESSION, headers=alice.auth).status_code == 401
        assert anyone.post(SESSION, json={"key": alice.key}).status_code == 401
    set_key(world, alice, revoked_at=None, expires_at=None)
    with world.sessions.begin() as session:
        session.execute(update(BrowserSession).values(expires_at=past))
    assert anyone.get(SESSION).status_code == 401


def test_the_last_use_is_noted_at_most_once_a_minute(api: TestClient, world: World, alice: Tenant) -> None:
    api.get(JOBS)
    first = key_row(world, alice).last_used_at
    assert first is not None
    api.get(JOBS)
    assert key_row(world, alice).last_used_at == first
    set_key(world, alice, last_used_at=first - timedelta(minutes=2))
    api.get(JOBS)
    last = key_row(world, alice).last_used_at
    assert last is not None
    assert last >= first

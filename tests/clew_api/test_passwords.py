"""Signing in by name and password."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from tests.clew_api.seeds import PASSWORD, Tenant, World

from clew_lab.catalogue import identity, keys, passwords
from clew_lab.catalogue.tables import Membership, SignInAttempt, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.errors import TooManyRequests
from clew_spec.people import Role

SESSION = "/api/v1/session"
HERE = {"Origin": "http://clew.test"}


@pytest.fixture
def ada(world: World, alice: Tenant) -> Tenant:
    """A member of alice's project who has a password."""
    person = world.member(alice.project, "ada", Role.MEMBER)
    world.set_password(person)
    return person


def sign_in(client: TestClient, name: str = "ada", password: str = PASSWORD) -> Any:
    return client.post(SESSION, json={"name": name, "password": password})


def test_a_password_opens_a_session_in_ones_project(anyone: TestClient, world: World, ada: Tenant) -> None:
    opened = sign_in(anyone)
    assert opened.status_code == 200
    found = opened.json()
    assert (found["user"], found["project"], found["role"], found["key_name"]) == ("ada", "alice", "member", None)
    assert anyone.get(SESSION).json() == found
    assert anyone.get("/api/v1/jobs").status_code == 200
    with world.sessions() as session:
        stored = session.get_one(User, ada.user_id).password
    assert stored is not None
    assert stored.startswith("$argon2id$")


def test_who_is_in_several_projects_acts_in_one_at_a_time(
    anyone: TestClient, world: World, ada: Tenant, bob: Tenant
) -> None:
    private = world.model(bob, name="private")
    sign_in(anyone)
    there = f"/api/v1/models/{private.id}"
    assert anyone.get(there).status_code == 404
    assert anyone.patch(SESSION, json={"project": "bob"}, headers=HERE).status_code == 404
    world.add(Membership(project_id=bob.project.id, user_id=ada.user_id, role="viewer"))
    found = anyone.patch(SESSION, json={"project": "bob"}, headers=HERE).json()
    assert (found["project"], found["role"]) == ("bob", "viewer")
    assert [one["project"] for one in found["projects"]] == ["alice", "bob"]
    assert anyone.get(there).status_code == 200
    assert anyone.post("/api/v1/jobs", json={}, headers=HERE).status_code == 403, "a member there is a viewer here"
    with world.sessions.begin() as session:
        session.delete(session.get_one(Membership, (bob.project.id, ada.user_id)))
    assert anyone.get(there).status_code == 403
    assert anyone.get(SESSION).json()["project"] is None
    assert anyone.patch(SESSION, json={"project": "alice"}, headers=HERE).json()["role"] == "member"


def test_a_session_of_a_key_stays_in_the_keys_project(
    anyone: TestClient, world: World, ada: Tenant, bob: Tenant
) -> None:
    world.add(Membership(project_id=bob.project.id, user_id=ada.user_id, role="viewer"))
    anyone.post(SESSION, json={"key": ada.key})
    assert anyone.patch(SESSION, json={"project": "bob"}, headers=HERE).status_code == 403


def test_nothing_tells_a_wrong_name_from_a_wrong_password(anyone: TestClient, world: World, ada: Tenant) -> None:
    world.member(ada.project, "keys-only", Role.MEMBER)
    disabled = world.member(ada.project, "disabled", Role.MEMBER)
    world.set_password(disabled)
    with world.sessions.begin() as session:
        session.get_one(User, disabled.user_id).disabled_at = datetime.now(UTC)
    answers = []
    for name, password in (("ada", "wrong"), ("nobody", PASSWORD), ("keys-only", PASSWORD), ("disabled", PASSWORD)):
        answer = sign_in(anyone, name, password)
        assert "set-cookie" not in answer.headers
        answers.append((answer.status_code, answer.json() | {"request_id": ""}))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("planted", ["clew_session=planted", "the victim's own"])
def test_signing_in_gives_a_cookie_that_nobody_knew_before(
    anyone: TestClient, world: World, ada: Tenant, planted: str
) -> None:
    """Session fixation: what was in the browser opens nothing afterwards."""
    if planted == "the victim's own":
        sign_in(anyone)
        planted = f"clew_session={anyone.cookies['clew_session']}"
    anyone.cookies.clear()
    opened = anyone.post(SESSION, json={"name": "ada", "password": PASSWORD}, headers={"Cookie": planted})
    assert opened.status_code == 200
    assert anyone.cookies["clew_session"] not in planted
    anyone.cookies.clear()
    assert anyone.get(SESSION, headers={"Cookie": planted}).status_code == 401


def test_no_page_of_others_signs_a_browser_in(anyone: TestClient, ada: Tenant) -> None:
    foreign = ("http://evil.test", "null", "http://[")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, *({"Origin": origin} for origin in foreign)):
        answer = anyone.post(SESSION, json={"name": "ada", "password": PASSWORD}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_too_many_wrong_passwords_and_the_right_one_waits_too(
    anyone: TestClient, world: World, ada: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "PER_PAIR", 3)
    for _ in range(2):
        assert sign_in(anyone, password="wrong").status_code == 401
    assert sign_in(anyone).status_code == 200
    for _ in range(3):
        assert sign_in(anyone, password="wrong").status_code == 401, "the right one began the count anew"
    refused = sign_in(anyone)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["type"] == "urn:clew:too-many-requests"
    assert sign_in(anyone, "alice", "wrong").status_code == 401, "of another name"
    assert anyone.post(SESSION, json={"key": ada.key}).status_code == 200, "a key is no password"
    with world.sessions.begin() as session:
        session.execute(update(SignInAttempt).values(at=datetime.now(UTC) - timedelta(minutes=16)))
    assert sign_in(anyone).status_code == 200


def test_attempts_at_once_count_as_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PER_PAIR", 3)

    def attempt(_: int) -> bool:
        try:
            with world.sessions.begin() as session:
                passwords.begin_attempt(session, "ada", "192.0.2.1")
        except TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 3


def test_nobody_is_kept_out_by_guesses_from_elsewhere(world: World) -> None:
    """What keeps a guesser out is for one name from one address; a name alone has room for many."""
    with world.sessions.begin() as session:
        for _ in range(passwords.PER_PAIR):
            passwords.begin_attempt(session, "ada", "192.0.2.1")
    with world.sessions.begin() as session:
        passwords.begin_attempt(session, "ada", "192.0.2.2")
    with world.sessions.begin() as session, pytest.raises(TooManyRequests):
        passwords.begin_attempt(session, "ada", "192.0.2.1")
    with world.sessions.begin() as session:
        for number in range(passwords.PER_ADDRESS):
            passwords.begin_attempt(session, f"name-{number}", "192.0.2.3")
    with world.sessions.begin() as session, pytest.raises(TooManyRequests):
        passwords.begin_attempt(session, "one more", "192.0.2.3")


def test_a_changed_password_ends_the_other_sessions(anyone: TestClient, world: World, ada: Tenant) -> None:
    sign_in(anyone)
    elsewhere = anyone.cookies["clew_session"]
    anyone.cookies.clear()
    sign_in(anyone)
    change = {"password": PASSWORD, "new_password": "the ball of Ariadne"}
    path = f"{SESSION}/password"
    assert anyone.put(path, json=change | {"password": "wrong"}, headers=HERE).status_code == 401
    assert anyone.put(path, json=change | {"new_password": "short"}, headers=HERE).json()["where"] == "/new_password"
    assert anyone.put(path, json=change, headers=ada.auth).status_code == 403, "a key changes none"
    assert anyone.put(path, json=change).status_code == 403, "another page neither"
    assert anyone.put(path, json=change, headers=HERE).status_code == 204
    assert anyone.get(SESSION).status_code == 200
    anyone.cookies.clear()
    assert anyone.get(SESSION, headers={"Cookie": f"clew_session={elsewhere}"}).status_code == 401
    assert sign_in(anyone).status_code == 401
    assert sign_in(anyone, password="the ball of Ariadne").status_code == 200


def test_a_disabled_person_is_out_at_once(anyone: TestClient, world: World, ada: Tenant) -> None:
    chief = world.member(ada.project, "chief", Role.VIEWER, admin=True)
    sign_in(anyone)
    path = f"/api/v1/users/{ada.user_id}"
    assert anyone.patch(path, json={"disabled": True}, headers=chief.auth).json()["disabled"] is True
    assert anyone.get(SESSION).status_code == anyone.get(SESSION, headers=ada.auth).status_code == 401
    assert sign_in(anyone).status_code == 401
    anyone.patch(path, json={"disabled": False}, headers=chief.auth)
    assert anyone.get(SESSION).status_code == 401, "sessions do not come back"
    assert anyone.get(SESSION, headers=ada.auth).status_code == 200, "keys do"


def test_what_a_stream_was_opened_with_must_stay_good(world: World, ada: Tenant, bob: Tenant) -> None:
    """What a long stream asks every few seconds."""
    from clew_spec.people import Permission

    secret_key = world.settings.secret_key
    row, cookie = world.sign_in(ada.user_id)
    with world.sessions.begin() as session:
        actor, _ = identity.actor_of_cookie(session, cookie, secret_key=secret_key)
        digests = [row.digest, keys.digest(secret_key, ada.key)]

    def still() -> list[bool]:
        with world.sessions.begin() as session:
            return [identity.still(session, one, actor, Permission.JOB_READ) for one in digests]

    assert still() == [True, True]
    world.add(Membership(project_id=bob.project.id, user_id=ada.user_id, role="viewer"))
    with world.sessions.begin() as session:
        session.execute(update(BrowserSession).values(project_id=bob.project.id))
    assert still() == [False, True], "it began in another project"
    with world.sessions.begin() as session:
        session.delete(session.get_one(Membership, (ada.project.id, ada.user_id)))
    assert still() == [False, False]
    with world.sessions() as session:
        assert session.scalar(select(User.disabled_at).where(User.id == ada.user_id)) is None

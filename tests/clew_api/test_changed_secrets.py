"""A secret that is changed while it is used: whichever is first, no session of the old one is left."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from tests.clew_api.seeds import PASSWORD, Tenant, World
from tests.support.waiting import until

from clew_lab.catalogue import identity, keys, passwords, people
from clew_lab.catalogue.bootstrap import bootstrap
from clew_lab.catalogue.identity import Shown
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import ApiKey, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.errors import NotAuthenticated
from clew_spec.people import Role, UserChange

SESSION = "/api/v1/session"
Change = Callable[[Session, World, Actor, Shown], Any]


def by_the_person(session: Session, _: World, actor: Actor, shown: Shown) -> None:
    people.change_password(session, actor, shown, "another hash", keep=None)


def by_an_admin(session: Session, _: World, actor: Actor, shown: Shown) -> None:
    people.change_user(session, actor, shown.id, UserChange(), password="another hash")


def disabled(session: Session, _: World, actor: Actor, shown: Shown) -> None:
    people.change_user(session, actor, shown.id, UserChange(disabled=True), password=None)


def from_the_shell(session: Session, world: World, _: Actor, shown: Shown) -> None:
    password, secret_key = SecretStr("another thread"), world.settings.secret_key
    bootstrap(session, "alice", "ada's key", secret_key=secret_key, user="ada", password=password)


def rotated(session: Session, world: World, actor: Actor, shown: Shown) -> None:
    keys.rotate_key(session, actor, shown.id, secret_key=world.settings.secret_key)


def revoked(session: Session, _: World, actor: Actor, shown: Shown) -> None:
    keys.revoke_key(session, actor, shown.id)


CHANGES: dict[Change, type[Any]] = {
    **dict.fromkeys((by_the_person, by_an_admin, disabled, from_the_shell), User),
    **dict.fromkeys((rotated, revoked), ApiKey),
}
changes = pytest.mark.parametrize("change", CHANGES)


@pytest.fixture
def ada(world: World, alice: Tenant) -> Tenant:
    world.member(alice.project, "chief", Role.ADMIN, admin=True)
    person = world.member(alice.project, "ada", Role.MEMBER)
    world.set_password(person)
    return person


def shown_in(session: Session, world: World, ada: Tenant, change: Change) -> Shown:
    """What a sign-in has checked by now."""
    if CHANGES[change] is ApiKey:
        return identity.key_shown(session, ada.key, secret_key=world.settings.secret_key)
    found = identity.password_of(session, "ada")
    assert found is not None
    return found


def left(world: World) -> int:
    with world.sessions() as session:
        return session.scalars(select(func.count()).select_from(BrowserSession)).one()


@changes
def test_what_was_changed_since_it_was_shown_opens_nothing(world: World, ada: Tenant, change: Change) -> None:
    with world.sessions.begin() as session:
        shown = shown_in(session, world, ada, change)
    with world.sessions.begin() as session:
        change(session, world, ada.actor, shown)
    with world.sessions() as session, pytest.raises(NotAuthenticated):
        identity.open_session(session, shown, secret_key=world.settings.secret_key)
    with world.sessions() as session, pytest.raises(NotAuthenticated):
        identity.hold(session, shown)
    assert left(world) == 0


@changes
def test_what_is_changed_while_a_session_opens_waits_and_ends_it(world: World, ada: Tenant, change: Change) -> None:
    with world.sessions.begin() as session:
        shown = shown_in(session, world, ada, change)
    pids: list[int] = []

    def meanwhile() -> None:
        with world.sessions.begin() as other:
            pids.append(other.scalars(text("select pg_backend_pid()")).one())
            change(other, world, ada.actor, shown)

    def waits() -> bool:
        blocked = text("select cardinality(pg_blocking_pids(:pid)) > 0")
        with world.sessions() as session:
            return bool(pids) and session.scalars(blocked, {"pid": pids[0]}).one()

    with ThreadPoolExecutor(1) as pool:
        with world.sessions.begin() as session:
            identity.open_session(session, shown, secret_key=world.settings.secret_key)
            changing = pool.submit(meanwhile)
            until(waits, "the change waits for the sign-in")
        changing.result(60)
    assert left(world) == 0


def test_a_password_that_is_changed_while_it_is_checked_opens_nothing(
    anyone: TestClient, world: World, ada: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the whole way of a sign-in, and of another change by the old password."""
    right = passwords.right

    def changed_after(password: SecretStr, stored: str | None) -> bool:
        found = right(password, stored)
        with world.sessions.begin() as session:
            session.get_one(User, ada.user_id).password = "another hash"
        return found

    own = {"Origin": "http://clew.test", "Cookie": f"clew_session={world.sign_in(ada.user_id)[1]}"}
    world.set_password(ada)
    monkeypatch.setattr(passwords, "right", changed_after)
    refused = anyone.post(SESSION, json={"name": "ada", "password": PASSWORD})
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
    world.set_password(ada)
    change = {"password": PASSWORD, "new_password": "the ball of Ariadne"}
    assert anyone.put(f"{SESSION}/password", json=change, headers=own).status_code == 401
    with world.sessions() as session:
        assert session.get_one(User, ada.user_id).password == "another hash"
    assert left(world) == 1, "its own, and none by the old password"


def test_who_waits_for_a_hash_holds_no_thread(
    anyone: TestClient, world: World, ada: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, hashing = threading.Event(), threading.Semaphore(0)

    def held(_: SecretStr, __: str | None) -> bool:
        hashing.release()
        assert let.wait(120)
        return False

    monkeypatch.setattr(passwords, "right", held)
    with ThreadPoolExecutor(45) as pool:  # more than the API has threads
        try:
            bodies = [{"name": f"name-{number}", "password": PASSWORD} for number in range(45)]
            asked = [pool.submit(anyone.post, SESSION, json=body) for body in bodies]
            for _ in range(passwords.AT_ONCE):
                assert hashing.acquire(timeout=60)
            waiting = anyone.app.state.lab.hashing  # type: ignore[attr-defined]  # it is a FastAPI
            until(lambda: waiting.statistics().tasks_waiting == 45 - passwords.AT_ONCE, "all others wait for a hash")
            assert anyone.get("/api/v1/jobs", headers=ada.auth).status_code == 200
            assert not any(one.done() for one in asked)
            assert not hashing.acquire(blocking=False), "no more at once than there is memory for"
        finally:
            let.set()
        assert {one.result(60).status_code for one in asked} == {401}

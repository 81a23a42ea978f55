"""Secrets go in and are never shown; who may set them; what lies in the database opens nothing elsewhere."""

import io
import json
import logging
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select, text
from tests.clew_api.seeds import Tenant, World

from clew_lab import logs
from clew_lab.catalogue import secrets
from clew_lab.catalogue.tables import Audit, Secret
from clew_spec.errors import DataError
from clew_spec.people import Role
from clew_spec.secrets import SecretName

SECRETS = "/api/v1/secrets"
TOKEN = "hf_" + "Zq8Kd0" * 5
KEY = SecretStr("k" * 32)


def test_a_secret_is_set_listed_replaced_and_deleted_and_shown_nowhere(
    api: TestClient, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    logs.configure("api")
    assert api.get(SECRETS).json() == []
    answers = [api.put(f"{SECRETS}/HF_TOKEN", json={"value": value}) for value in ("an-older-one", TOKEN)]
    assert [answer.status_code for answer in answers] == [200, 200]
    (listed,) = api.get(SECRETS).json()
    assert listed == answers[1].json()
    assert (listed["name"], listed["user"]) == ("HF_TOKEN", "alice")
    refused = api.put(f"{SECRETS}/HF_TOKEN", json={"value": TOKEN + " ", "extra": TOKEN})
    assert refused.status_code == 422
    with world.sessions() as session:
        found = secrets.opened(session, alice.project.id, [SecretName.HF_TOKEN], secret_key=world.settings.secret_key)
        assert found == {"HF_TOKEN": TOKEN}
        stored = [*session.execute(text("select secrets::text from secrets")).scalars()]
        audited = session.scalars(select(Audit).where(Audit.action.startswith("secret."))).all()
        assert [(row.action, row.target, row.data) for row in audited] == [("secret.set", "HF_TOKEN", None)] * 2
    assert api.delete(f"{SECRETS}/HF_TOKEN").status_code == 204
    assert api.delete(f"{SECRETS}/HF_TOKEN").status_code == 404
    everything = json.dumps([stored, refused.text, *(answer.text for answer in answers), api.get("/api/v1/audit").text])
    assert "secret.deleted" in everything
    assert TOKEN not in everything + said.getvalue()
    logging.getLogger().handlers.clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "short"),
        ("HF_TOKEN", "x" * 4097),
        ("HF_TOKEN", "with spaces in it"),
        ("HF_TOKEN", "with\nnewline"),
        ("HF_TOKEN", "schl\u00fcssel-der-weise"),
        ("HF_TOKEN", None),
        ("LD_PRELOAD", TOKEN),
        ("PATH", TOKEN),
        ("hf_token", TOKEN),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(api: TestClient, name: str, value: str | None) -> None:
    answer = api.put(f"{SECRETS}/{name}", json={"value": value})
    assert answer.status_code == 422
    assert value is None or value not in answer.text


def test_who_may_set_and_who_may_see_that_one_is_set(
    api: TestClient, anyone: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    assert api.put(f"{SECRETS}/HF_TOKEN", json={"value": TOKEN}).status_code == 200
    people = {role: world.member(alice.project, role.value, role) for role in Role}
    for role, person in people.items():
        may = role in (Role.MAINTAINER, Role.ADMIN)
        put = anyone.put(f"{SECRETS}/HF_TOKEN", json={"value": TOKEN}, headers=person.auth)
        assert put.status_code == (200 if may else 403), role
        listed = anyone.get(SECRETS, headers=person.auth).status_code
        assert listed == (403 if role is Role.VIEWER else 200)
        if not may:
            assert anyone.delete(f"{SECRETS}/HF_TOKEN", headers=person.auth).status_code == 403
    assert anyone.get(SECRETS, headers=bob.auth).json() == []
    assert anyone.delete(f"{SECRETS}/HF_TOKEN", headers=bob.auth).status_code == 404


def test_what_is_sealed_opens_in_its_own_place_alone() -> None:
    project, other = uuid4(), uuid4()
    sealed = secrets.seal(TOKEN, project, "HF_TOKEN", KEY)
    assert TOKEN not in sealed
    assert sealed != secrets.seal(TOKEN, project, "HF_TOKEN", KEY), "no nonce is used twice"
    assert secrets.unseal(sealed, project, "HF_TOKEN", KEY) == TOKEN
    flipped = ("A" if sealed[0] != "A" else "B") + sealed[1:]
    for stolen in (
        (sealed, other, "HF_TOKEN", KEY),
        (sealed, project, "OTHER", KEY),
        (sealed, project, "HF_TOKEN", SecretStr("l" * 32)),
        (flipped, project, "HF_TOKEN", KEY),
        ("", project, "HF_TOKEN", KEY),
        ("\u00fc", project, "HF_TOKEN", KEY),
    ):
        with pytest.raises(DataError, match="cannot be opened") as caught:
            secrets.unseal(*stolen)
        assert TOKEN not in str(caught.value)


def test_a_secret_of_a_later_version_is_left_out(api: TestClient, world: World, alice: Tenant) -> None:
    world.add(Secret(project_id=alice.project.id, name="LATER", sealed="x"))
    assert api.get(SECRETS).json() == []

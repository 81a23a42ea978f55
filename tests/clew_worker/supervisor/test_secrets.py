"""A secret goes to the runner of a job of its project that needs it, and nowhere else, whatever that runner says."""

from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from tests.support.fleet import Fleet
from tests.support.jobs import make_actor

from clew_lab.catalogue import secrets
from clew_lab.catalogue.engine import libpq_url
from clew_lab.catalogue.tables import Base, Event
from clew_spec.jobs import JobState
from clew_spec.secrets import SecretName

TOKEN = "hf_" + 'Zq8"K\\d0' * 5
"""With what JSON escapes in it."""


def of_the_hub(fleet: Fleet, *words: str) -> UUID:
    """A job that reads a dataset of the hub; the fake runner reads its words from the configuration's name."""
    source = {"kind": "hf", "repo": "lab/notes", "config": "+".join(words)}
    return fleet.accept(
        {"spec": {"kind": "build-dataset", "name": "fake", "model": "m", "source": source, "max_tokens": 1000}}
    )


@pytest.fixture
def token(fleet: Fleet) -> str:
    with fleet.sessions.begin() as session:
        key = fleet.lab.settings.secret_key
        secrets.set_secret(session, fleet.actor, SecretName.HF_TOKEN, SecretStr(TOKEN), secret_key=key)
    return TOKEN


def test_a_secret_reaches_the_runner_that_needs_it_and_is_passed_on_nowhere(fleet: Fleet, token: str) -> None:
    fleet.scheduler()
    fleet.worker()
    needs = fleet.settle(of_the_hub(fleet, "steps_3", "leak"))
    assert needs.state == JobState.SUCCEEDED, fleet.logs()
    assert needs.result is not None
    assert "HF_TOKEN" in needs.result["source"]["environ"]
    assert needs.result["source"]["tokens"][-1] == "***", "it had the secret, and told it"
    failed = fleet.settle(of_the_hub(fleet, "leak", "fail_at_1"))
    assert failed.error is not None
    assert failed.error["detail"] == "as told ***"
    crashed = of_the_hub(fleet, "leak", "crash_once_at_2", "every_1")
    assert fleet.settle(crashed).state == JobState.SUCCEEDED
    told = [event.data["message"] for event in fleet.rows(Event, Event.job_id == crashed) if event.type == "log"]
    assert "Authorization: Bearer ***" in told
    assert "out of luck ***\n" in told

    without = fleet.settle(fleet.submit("steps_1"))
    assert without.result is not None
    assert "HF_TOKEN" not in without.result["source"]["environ"], "it needs none"
    own, fleet.actor = fleet.actor, make_actor(fleet.sessions, "another")
    foreign = fleet.settle(of_the_hub(fleet, "steps_1"))
    fleet.actor = own
    assert foreign.result is not None
    assert "HF_TOKEN" not in foreign.result["source"]["environ"], "another project's"

    escaped = token.replace("\\", "\\\\").replace('"', '\\"')
    places = {"logs": fleet.logs(), **rows(fleet), **objects(fleet), **files(fleet)}
    assert len(places) > 25
    assert [name for name, content in places.items() if token in content or escaped in content] == []


def test_a_secret_that_cannot_be_opened_is_told(fleet: Fleet) -> None:
    """Where the key of the lab was changed, or a sealed value was brought from elsewhere."""
    with fleet.sessions.begin() as session:
        other = SecretStr("another-key" + "0" * 32)
        secrets.set_secret(session, fleet.actor, SecretName.HF_TOKEN, SecretStr(TOKEN), secret_key=other)
    fleet.scheduler()
    fleet.worker()
    job = fleet.settle(of_the_hub(fleet, "steps_1"))
    assert (job.state, job.error and job.error["detail"]) == (JobState.FAILED, "the secret HF_TOKEN cannot be opened")


def rows(fleet: Fleet) -> dict[str, str]:
    with psycopg.connect(libpq_url(fleet.lab.settings.database_url.get_secret_value())) as connection:
        return {
            name: repr(connection.execute(f'select t::text from "{name}" t').fetchall())  # noqa: S608  # our own tables
            for name in Base.metadata.tables
        }


def objects(fleet: Fleet) -> dict[str, str]:
    return {key: fleet.store.read(key).decode(errors="replace") for key in fleet.store.keys("projects/")}


def files(fleet: Fleet) -> dict[str, str]:
    """Whatever workers left on their disks."""
    folder = fleet.lab.settings.data_dir
    return {str(path): path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}

"""Jobs that are submitted at the same moment share a transaction, and no fate."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from tests.clew_api.seeds import MAX_CONTEXT, Tenant, World

from clew_api.lab import Lab
from clew_api.submission import Accepted, Submission, accepted
from clew_local.servers.ports import free_ports
from clew_spec.errors import Conflict, InvalidSpec
from clew_spec.jobs import JobRequest

NUL = "\0"
"""In a text it makes Postgres refuse the statement, and with it the transaction."""


@pytest.fixture
def behind(world: World) -> Iterator[Lab]:
    """What stands behind the routes."""
    found = Lab.of(world.settings)
    yield found
    found.close()


def build(alice: Tenant, model: str = "m", **fields: Any) -> Submission:
    spec = {"kind": "build-dataset", "name": "text", "model": model, "context": fields.pop("context", 8)}
    return Submission(alice.actor, JobRequest.model_validate({"spec": spec}), **fields)


def ask(alice: Tenant, prompt: str) -> Submission:
    spec = {"kind": "attribute", "name": "g", "coders": "set", "prompt": prompt}
    return Submission(alice.actor, JobRequest.model_validate({"spec": spec}))


def stored(world: World, what: str) -> set[Any]:
    with world.sessions() as session:
        return set(session.scalars(text(what)))


def test_a_lot_is_one_transaction_and_each_job_of_it_is_whole(behind: Lab, world: World, alice: Tenant) -> None:
    world.model(alice)
    found = accepted(behind, [build(alice, context=context) for context in (8, 16, 32)])
    ids = {one.job.id for one in found if isinstance(one, Accepted) and one.created}
    assert len(ids) == 3
    assert ids == stored(world, "select id from jobs where kind = 'build-dataset'")
    assert ids == stored(world, "select job_id from events where seq = 1")
    assert ids == stored(world, "select cast(target as uuid) from audit where action = 'job.accepted'")
    assert len(stored(world, "select cast(xmin as text) from jobs where kind = 'build-dataset'")) == 1


def test_what_is_refused_or_breaks_in_a_lot_is_its_own_fault_alone(
    behind: Lab, world: World, alice: Tenant, records: None
) -> None:
    before = stored(world, "select id from jobs")
    lot = [
        build(alice, idempotency_key="once"),
        build(alice, "unknown"),
        build(alice, request_id=NUL),
        build(alice, idempotency_key="once"),
        build(alice, idempotency_key="once", context=16),
        ask(alice, "when mary and john"),
        ask(alice, "when " * (MAX_CONTEXT + 1)),
    ]
    first, unknown, broken, again, conflict, prompt, too_long = accepted(behind, lot)
    assert isinstance(unknown, InvalidSpec)
    assert isinstance(broken, DBAPIError)
    assert isinstance(conflict, Conflict)
    assert isinstance(too_long, InvalidSpec)
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert isinstance(prompt, Accepted)
    assert (first.created, again.created, prompt.created) == (True, False, True)
    assert first.job.id == again.job.id
    assert stored(world, "select id from jobs") - before == {first.job.id, prompt.job.id}
    made = stored(world, "select cast(target as uuid) from audit where action = 'job.accepted'")
    assert made == {first.job.id, prompt.job.id}


def test_postgres_that_cannot_be_asked_is_asked_once_for_all_of_a_lot(world: World, alice: Tenant) -> None:
    nobody = f"postgresql+psycopg://clew@127.0.0.1:{free_ports(1)[0]}/clew"
    alone = Lab.of(world.settings.model_copy(update={"database_url": SecretStr(nobody)}))
    tries = []
    event.listen(alone.engine, "do_connect", lambda *_: tries.append(1))
    with pytest.raises(OperationalError):
        accepted(alone, [build(alice), build(alice)])
    alone.close()
    assert len(tries) == 1

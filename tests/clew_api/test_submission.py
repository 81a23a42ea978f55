"""Jobs that are submitted at the same moment share a transaction, and no fate."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import MAX_CONTEXT, Tenant, World
from tests.support.proxy import Proxy

from clew_api.lab import Lab
from clew_api.submission import Accepted, Submission, Submissions, accepted
from clew_lab.catalogue.tables import ApiKey, Job, Membership
from clew_lab.catalogue.tokenizing import Tokenizers
from clew_local.servers.ports import free_ports
from clew_spec.errors import Conflict, Forbidden, InvalidSpec, NotAuthenticated, Unavailable
from clew_spec.jobs import JobRequest

NUL = "\0"
"""In a text it makes Postgres refuse the statement, and with it the transaction."""


@pytest.fixture
def behind(world: World) -> Iterator[Lab]:
    """What stands behind the routes."""
    found = Lab.of(world.settings)
    yield found
    found.close()


Make = Callable[..., Submission]


@pytest.fixture
def build(world: World, alice: Tenant) -> Make:
    def build(model: str = "m", context: int = 8, who: Tenant = alice, **fields: Any) -> Submission:
        spec = {"kind": "build-dataset", "name": "text", "model": model, "context": context}
        return Submission(credential_of(world, who), who.actor, JobRequest.model_validate({"spec": spec}), **fields)

    return build


@pytest.fixture
def ask(world: World, alice: Tenant) -> Make:
    def ask(prompt: str, **fields: Any) -> Submission:
        spec = {"kind": "attribute", "name": "g", "coders": "set", "prompt": prompt}
        return Submission(credential_of(world, alice), alice.actor, JobRequest.model_validate({"spec": spec}), **fields)

    return ask


def credential_of(world: World, who: Tenant) -> str:
    with world.sessions() as session:
        return session.scalars(select(ApiKey.digest).where(ApiKey.id == who.key_id)).one()


def answered(lab: Lab, lot: Sequence[Submission]) -> list[Accepted | BaseException]:
    """As the API answers them, asked at once."""

    async def run() -> list[Accepted | BaseException]:
        submissions = Submissions(lab)
        found = await asyncio.gather(*map(submissions.ask, lot), return_exceptions=True)
        await submissions.close()
        return found

    return asyncio.run(run())


COPIED = ("project_id", "visibility", "kind", "name", "spec", "inputs", "pool", "priority", "request_digest", "state")


def accepted_job(lab: Lab, submission: Submission) -> Accepted:
    (found,) = accepted(lab, [submission])
    assert isinstance(found, Accepted)
    return found


def stored(world: World, what: str) -> set[Any]:
    with world.sessions() as session:
        return set(session.scalars(text(what)))


def test_a_lot_is_one_transaction_and_each_job_of_it_is_whole(
    behind: Lab, world: World, alice: Tenant, build: Make
) -> None:
    world.model(alice)
    found = accepted(behind, [build(context=context) for context in (8, 16, 32)])
    ids = {one.job.id for one in found if isinstance(one, Accepted) and one.created}
    assert len(ids) == 3
    assert ids == stored(world, "select id from jobs where kind = 'build-dataset'")
    assert ids == stored(world, "select job_id from events where seq = 1")
    assert ids == stored(world, "select cast(target as uuid) from audit where action = 'job.accepted'")
    assert len(stored(world, "select cast(xmin as text) from jobs where kind = 'build-dataset'")) == 1


def test_what_is_refused_or_breaks_in_a_lot_is_its_own_fault_alone(
    behind: Lab, world: World, records: None, build: Make, ask: Make
) -> None:
    before = stored(world, "select id from jobs")
    lot = [
        build(idempotency_key="once"),
        build("unknown"),
        build(request_id=NUL),
        build(idempotency_key="once"),
        build(idempotency_key="once", context=16),
        ask("when mary and john"),
        ask("when " * (MAX_CONTEXT + 1)),
    ]
    first, unknown, broken, again, conflict, prompt, too_long = answered(behind, lot)
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


def test_a_lock_that_is_waited_for_in_vain_is_the_fault_of_who_wanted_it(
    behind: Lab, world: World, alice: Tenant, build: Make
) -> None:
    world.model(alice)

    @event.listens_for(behind.engine, "begin")
    def impatient(connection: Any) -> None:
        connection.exec_driver_sql("set local lock_timeout = '300ms'")

    with world.sessions.begin() as session:
        held = session.get_one(Job, accepted_job(behind, build(context=32)).job.id)
        session.add(Job(**{name: getattr(held, name) for name in COPIED}, idempotency_key="held"))
        session.flush()
        free, stuck, other = accepted(behind, [build(idempotency_key=key) for key in ("a", "held", "z")])
        session.rollback()
    assert isinstance(stuck, OperationalError)
    assert isinstance(free, Accepted)
    assert isinstance(other, Accepted)


def test_lots_that_insert_the_same_keys_in_turned_order_all_get_their_jobs(
    behind: Lab, world: World, alice: Tenant, build: Make
) -> None:
    world.model(alice)
    other = world.member(alice.project, "other", alice.role)
    names = [f"k{number:02}" for number in range(20)]
    lots = [
        [build(idempotency_key=name) for name in names],
        [build(who=other, idempotency_key=name) for name in reversed(names)],
    ]
    spoiled: list[str] = []
    event.listen(behind.engine, "rollback", lambda _: spoiled.append(""))
    with ThreadPoolExecutor(2) as threads:
        ones, others = threads.map(lambda lot: accepted(behind, lot), lots)
    assert not spoiled
    jobs = [one.job.id if isinstance(one, Accepted) else one for one in ones]
    assert jobs == [one.job.id if isinstance(one, Accepted) else one for one in reversed(others)]
    assert len(stored(world, "select id from jobs where idempotency_key like 'k%'")) == len(names)


def test_who_may_no_longer_by_the_time_the_lot_is_taken_in_gets_no_job(
    behind: Lab, world: World, alice: Tenant, build: Make
) -> None:
    world.model(alice)
    ann, ben, cleo = (world.member(alice.project, name, alice.role) for name in ("ann", "ben", "cleo"))
    lot = [build(who=who, idempotency_key=who.key[-8:]) for who in (ann, ben, cleo, alice)]
    with world.sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.id == ann.key_id).values(revoked_at=text("now()")))
        session.execute(update(Membership).where(Membership.user_id == ben.user_id).values(role="viewer"))
        session.execute(text("delete from memberships where user_id = :id"), {"id": cleo.user_id})
    revoked, viewer, gone, member = accepted(behind, lot)
    assert isinstance(revoked, NotAuthenticated)
    assert isinstance(viewer, Forbidden)
    assert isinstance(gone, Forbidden)
    assert isinstance(member, Accepted)
    assert stored(world, "select id from jobs where kind = 'build-dataset'") == {member.job.id}


def test_who_asks_is_looked_up_once_a_lot(behind: Lab, world: World, alice: Tenant, build: Make) -> None:
    world.model(alice)
    statements: list[str] = []
    event.listen(behind.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    accepted(behind, [build()])
    assert len(statements) == 5, statements
    statements.clear()
    accepted(behind, [build(context=context) for context in (8, 16, 32)])
    assert len([one for one in statements if "api_keys" in one]) == 1


def test_without_the_store_only_what_has_a_text_waits_for_it(
    world: World, records: None, build: Make, ask: Make
) -> None:
    host, _, port = world.settings.s3_endpoint.partition(":")
    proxy = Proxy(host, int(port))
    whole = Lab.of(world.settings.model_copy(update={"s3_endpoint": f"127.0.0.1:{proxy.port}"}))
    fetched: list[str] = []

    def read(key: str) -> bytes:
        fetched.append(key)
        return whole.store.read(key)

    lab = replace(whole, tokenizers=Tokenizers(read))

    async def run() -> None:
        submissions = Submissions(lab)
        texts = [asyncio.create_task(submissions.ask(ask(f"when mary {'and ' * n}"))) for n in range(3)]
        others = await asyncio.gather(*(submissions.ask(build(context=context)) for context in (8, 16)))
        assert all(one.created for one in others)
        while not fetched:
            await asyncio.sleep(0.01)
        assert not any(text.done() for text in texts)
        proxy.cut()
        found = await asyncio.gather(*texts, return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable] * 3
        proxy.mend()
        assert (await submissions.ask(ask("when mary"))).created
        await submissions.close()

    proxy.hang()
    asyncio.run(asyncio.wait_for(run(), 50))
    proxy.close()
    lab.close()
    assert len(fetched) <= 3, "once for all texts that wait, and once when it was back"


def test_postgres_that_cannot_be_asked_is_asked_once_for_all_of_a_lot(world: World, build: Make) -> None:
    nobody = f"postgresql+psycopg://clew@127.0.0.1:{free_ports(1)[0]}/clew"
    alone = Lab.of(world.settings.model_copy(update={"database_url": SecretStr(nobody)}))
    tries = []
    event.listen(alone.engine, "do_connect", lambda *_: tries.append(1))
    with pytest.raises(OperationalError):
        accepted(alone, [build(), build()])
    alone.close()
    assert len(tries) == 1


def test_where_postgres_dies_after_a_lot_was_spoiled_the_rest_of_it_is_not_tried(
    behind: Lab, world: World, alice: Tenant, build: Make
) -> None:
    world.model(alice)
    begun: list[Any] = []

    @event.listens_for(behind.engine, "begin")
    def dying(connection: Any) -> None:
        begun.append(connection)
        if len(begun) == 3:  # the lot, and its first question, have had theirs
            connection.exec_driver_sql("select pg_terminate_backend(pg_backend_pid())")

    first, *rest = accepted(behind, [build(), build(request_id=NUL), build(context=16), build(context=32)])
    assert isinstance(first, Accepted)
    assert all(isinstance(one, OperationalError) for one in rest)
    assert len(begun) == 3


def test_every_answer_belongs_to_its_own_request(running: Running, world: World, alice: Tenant, bob: Tenant) -> None:
    for owner in (alice, bob):
        world.model(owner)
    asked = [(owner, number) for number in range(16) for owner in (alice, bob)]
    at_once = threading.Barrier(len(asked))

    def submit(one: tuple[Tenant, int]) -> httpx2.Response:
        owner, number = one
        at_once.wait(30)
        spec = {"kind": "build-dataset", "name": f"{owner.project.name}-{number // 2}", "model": "m"}
        headers = owner.auth | {"Idempotency-Key": f"key-{number // 2}", "X-Request-ID": f"request-{number}"}
        return httpx2.post(f"{running.url}/jobs", json={"spec": spec}, headers=headers, timeout=60)

    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(submit, asked))
    made: dict[str, list[int]] = {}
    for (owner, number), answer in zip(asked, answers, strict=True):
        view = answer.json()
        assert (view["project"], view["name"]) == (owner.project.name, f"{owner.project.name}-{number // 2}")
        assert answer.headers["location"].endswith(view["id"])
        assert answer.headers["x-request-id"] == f"request-{number}"
        made.setdefault(view["id"], []).append(answer.status_code)
    assert [sorted(statuses) for statuses in made.values()] == [[200, 202]] * 16
    assert {str(id) for id in stored(world, "select id from jobs where kind = 'build-dataset'")} == set(made)

"""Lists of jobs cost what they show, whoever made the jobs that they do not show."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.queries import list_jobs
from clew_lab.catalogue.scope import Actor
from clew_spec.jobs import JobState

PAST = 20_000
BLOCKS = 1500
"""Pages of 8 KiB that a list may look at: a walk through all jobs meets several thousand."""
MANY = text("""
    insert into jobs (project_id, user_id, visibility, kind, name, spec, inputs, pool, priority, request_digest, state,
                      finished_at)
    select project_id, user_id, visibility, kind, name, spec, inputs, pool, priority, request_digest, 'succeeded', now()
      from jobs, generate_series(1, :past) where id = :id
""")


@pytest.fixture
def looked_at(world: World) -> Iterator[list[int]]:
    """Of each statement from now on, the pages that it met."""
    engine: Engine = world.sessions.kw["bind"]
    found: list[int] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            cursor.execute(f"explain (analyze, buffers, format json) {statement}", parameters)
            plan = cursor.fetchone()[0][0]["Plan"]
            found.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    event.listen(engine, "before_cursor_execute", explain)
    yield found
    event.remove(engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("visibility", ["project", "lab"])
def test_a_list_walks_through_no_past(
    world: World, alice: Tenant, bob: Tenant, visibility: str, looked_at: list[int]
) -> None:
    """One project holds nearly all jobs of the lab, all of one kind and state, and those that are asked for are old."""
    old = [world.job(owner, user_id=owner.user_id) for owner in (alice, bob)]
    program = replace(alice.actor, user_id=None, user_name=None)  # a key of the project, nobody's
    world.job(alice, created_by=alice.actor.key_id)
    first = world.job(alice, user_id=alice.user_id, visibility=visibility)
    with world.sessions.begin() as session:
        session.execute(MANY, {"past": PAST, "id": first.id})
        session.execute(text("update jobs set user_id = null where id > :id"), {"id": first.id})
    engine: Engine = world.sessions.kw["bind"]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze jobs"))
    asked: list[tuple[Actor, dict[str, Any], int]] = [
        (alice.actor, {}, 50),
        (alice.actor, {"states": [JobState.QUEUED]}, 3),
        (alice.actor, {"states": [JobState.FAILED]}, 0),
        (alice.actor, {"kinds": ["train"]}, 0),
        (alice.actor, {"user": "me"}, 2),
        (alice.actor, {"user": "nobody"}, 0),
        (program, {"user": "me"}, 1),
        (bob.actor, {} if visibility == "project" else {"states": [JobState.QUEUED]}, 1 + (visibility == "lab")),
    ]
    for actor, wanted, shown in asked:
        with world.sessions() as session:
            session.connection()
            looked_at.clear()
            page = list_jobs(session, actor, **wanted)
            assert len(page.items) == shown, wanted
            assert max(looked_at) < BLOCKS, (wanted, looked_at)
    assert old[0].id < first.id

"""The store against its model, for any course of events; and stores that forget a question, which it must find out."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.chaos.machine import CLOCK, StoreMachine
from tests.support.jobs import Queue, make_actor
from tests.support.mutant import QUESTIONS, never_asks

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_spec.errors import Conflict

pytestmark = pytest.mark.chaos

COURSES = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def machine(database_url: str) -> Iterator[type[StoreMachine]]:
    first = make_engine(database_url)
    with first.begin() as connection:
        connection.execute(text(CLOCK))
    first.dispose()
    engine = make_engine(database_url)
    sessions = session_factory(engine)

    class Machine(StoreMachine):
        queue = Queue(sessions, make_actor(sessions, "main"))

    yield Machine
    engine.dispose()


def test_the_store_keeps_its_laws(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=COURSES)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_store_that_never_asks_is_found_out(machine: type[StoreMachine], question: str) -> None:
    never_asks(question, machine.queue.sessions.kw["bind"])
    course = settings(COURSES, max_examples=300, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises((AssertionError, Conflict, DBAPIError)):
        run_state_machine_as_test(machine, settings=course)

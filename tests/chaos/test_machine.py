"""The store against its model, for any course of events; and a store without the fence, which the model finds out."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from tests.chaos.machine import CLOCK, StoreMachine
from tests.support.jobs import Queue, make_actor
from tests.support.mutant import never_asks

from clew_lab.catalogue.engine import make_engine, session_factory

pytestmark = pytest.mark.chaos

COURSES = settings(
    max_examples=30,
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


def oversleep(machine: type[StoreMachine]) -> None:
    """One job, whose holder wakes when another has it."""
    course = machine()
    course.submit(0, None)
    course.a_scheduler_s_turn()
    course.answer_a_bell(0, 0, again=False)
    course.oversleep(0)
    course.time_passes(7, set())
    course.the_store_is_what_it_must_be()


def test_the_fence_is_what_keeps_a_holder_that_overslept_out(machine: type[StoreMachine]) -> None:
    oversleep(machine)
    never_asks("fence", machine.queue.sessions.kw["bind"])
    with pytest.raises(AssertionError, match="written: True"):
        oversleep(machine)

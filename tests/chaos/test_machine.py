"""The store against its model, for any course of events; and a store without the fence, which the model finds out."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from tests.chaos.machine import CLOCK, PROJECTS, StoreMachine
from tests.chaos.truth import SIZES
from tests.support.jobs import Queue, make_actor
from tests.support.mutant import never_asks

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.jobs.choice import Free
from clew_lab.jobs.floor import Holder
from clew_lab.jobs.share import Account

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
        actors = [make_actor(sessions, f"p{n}") for n in range(PROJECTS)]
        queue = Queue(sessions, actors[0])

    yield Machine
    engine.dispose()


def test_the_store_keeps_its_laws(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=COURSES)


def oversleep(machine: type[StoreMachine]) -> None:
    """One job, whose holder wakes when another has it."""
    course = machine()
    course.submit(0, 0, "normal", 0, None)
    course.a_scheduler_s_turn()
    course.answer_a_bell(0, again=False, astray=None)
    course.oversleep(0)
    course.time_passes(7, set())
    course.the_store_is_what_it_must_be()


def test_the_fence_is_what_keeps_a_holder_that_overslept_out(machine: type[StoreMachine]) -> None:
    oversleep(machine)
    never_asks("fence", machine.queue.sessions.kw["bind"])
    with pytest.raises(AssertionError, match="written: True"):
        oversleep(machine)


def crowd(machine: type[StoreMachine]) -> None:
    """A project at its quota, and low jobs on all workers when a high one comes."""
    course = machine()
    course.limit(0, 1)
    for project in (0, 1):
        for _ in range(2):
            course.submit(0, project, "low", 0, None)
        course.a_scheduler_s_turn()
    assert len(course.bells) == len(SIZES)
    for _ in SIZES:
        course.answer_a_bell(0, again=False, astray=None)
    course.submit(0, 1, "high", 2, None)
    course.a_scheduler_s_turn()
    assert [truth.worker for truth in course.jobs.values() if truth.preempt] in (["w1"], ["w2"])
    course.the_store_is_what_it_must_be()


def test_a_scheduler_that_does_not_count_what_machines_have_left_is_found_out(
    machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        course = machine()
        for _ in range(2):
            course.submit(0, 1, "normal", 2, None)
        course.a_scheduler_s_turn()
        course.jobs_ask_of_no_machine_together_for_more_than_it_has()

    fill()
    monkeypatch.setattr(Holder, "places", frozenset())
    with pytest.raises(AssertionError, match="which is more than there is"):
        fill()


@pytest.mark.parametrize(
    ("holder", "name", "without", "found"),
    [
        (Account, "full", False, "project 0 has too many"),
        (Account, "full", True, "is free, and nothing is given to it"),
        (Holder, "makes_room", False, "waits for"),
        (Free, "may_run", lambda *_: False, "is free, and nothing is given to it"),
    ],
)
def test_an_unfair_scheduler_is_found_out(
    machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch, holder: type, name: str, without: object, found: str
) -> None:
    crowd(machine)
    monkeypatch.setattr(holder, name, without)
    with pytest.raises(AssertionError, match=found):
        crowd(machine)

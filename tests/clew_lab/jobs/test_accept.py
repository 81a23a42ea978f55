"""Accepting: once, whoever asks how often."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tests.support.jobs import Queue, job_request, make_actor

from clew_lab.catalogue.tables import Audit, Event, Job
from clew_lab.jobs.accept import accept, request_digest
from clew_lab.jobs.notify import QUEUE, Listener
from clew_spec.errors import Conflict
from clew_spec.jobs import JobRequest


def test_sixteen_at_once_with_one_key_make_one_job(queue: Queue) -> None:
    together = Barrier(16)

    def ask(_: int) -> tuple[object, bool]:
        together.wait()
        with queue.sessions.begin() as session:
            job, created = accept(
                session, queue.actor, job_request(), inputs={}, name="text", idempotency_key="k", request_id="r"
            )
            return job.id, created

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert len({id for id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    with queue.sessions() as session:
        assert (session.query(Job).count(), session.query(Event).count(), session.query(Audit).count()) == (1, 1, 1)


def test_a_key_with_another_request_is_a_conflict_and_belongs_to_one_project(queue: Queue) -> None:
    with queue.sessions.begin() as session:
        first, _ = accept(session, queue.actor, job_request(), inputs={}, name="text", idempotency_key="k")
    with pytest.raises(Conflict, match="used for another request"), queue.sessions.begin() as session:
        accept(session, queue.actor, job_request("other"), inputs={}, name="text", idempotency_key="k")
    other = make_actor(queue.sessions, "other")
    with queue.sessions.begin() as session:
        theirs, created = accept(session, other, job_request("other"), inputs={}, name="text", idempotency_key="k")
        assert created
        assert theirs.id != first.id
    with queue.sessions.begin() as session:
        assert accept(session, queue.actor, job_request(), inputs={}, name="text")[1], "no key, no bond"
        assert accept(session, queue.actor, job_request(), inputs={}, name="text")[1]


def test_a_default_that_is_spelled_out_is_the_same_request() -> None:
    spelled = JobRequest.model_validate_json(
        '{"max_retries": 0, "priority": "normal", "spec": {"seed": 0, "model": "m", "name": "text", '
        '"kind": "build-dataset"}}'
    )
    assert request_digest(spelled) == request_digest(job_request())
    assert request_digest(job_request(max_retries=1)) != request_digest(job_request())


def test_nothing_is_left_and_nobody_woken_unless_it_is_committed(queue: Queue, database_url: str) -> None:
    listener = Listener(database_url, QUEUE)
    session = queue.sessions()
    accept(session, queue.actor, job_request(), inputs={}, name="text")
    session.rollback()
    assert listener.wait(0.2) == []
    with queue.sessions() as reader:
        assert reader.query(Job).count() + reader.query(Audit).count() == 0
    queue.accept()
    assert listener.wait(10) == [""]
    listener.close()

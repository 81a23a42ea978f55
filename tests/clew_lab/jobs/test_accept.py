"""Accepting: once, whoever asks how often."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, update
from tests.support.jobs import Queue, job_request, make_actor

from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Audit, Event, Job
from clew_lab.jobs.accept import Asked, accept, request_digest
from clew_lab.jobs.notify import QUEUE, Listener
from clew_spec.errors import Conflict
from clew_spec.jobs import JobRequest


def test_sixteen_at_once_with_one_key_make_one_job(queue: Queue) -> None:
    together = Barrier(16)

    def ask(_: int) -> tuple[object, bool]:
        together.wait()
        with queue.sessions.begin() as session:
            job, created = accept(
                session, queue.actor, Asked(job_request(), "text"), idempotency_key="k", request_id="r"
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
        first, _ = accept(session, queue.actor, Asked(job_request(), "text"), idempotency_key="k")
    with pytest.raises(Conflict, match="used for another request"), queue.sessions.begin() as session:
        accept(session, queue.actor, Asked(job_request("other"), "text"), idempotency_key="k")
    other = make_actor(queue.sessions, "other")
    with queue.sessions.begin() as session:
        theirs, created = accept(session, other, Asked(job_request("other"), "text"), idempotency_key="k")
        assert created
        assert theirs.id != first.id
    with queue.sessions.begin() as session:
        assert accept(session, queue.actor, Asked(job_request(), "text"))[1], "no key, no bond"
        assert accept(session, queue.actor, Asked(job_request(), "text"))[1]


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
    accept(session, queue.actor, Asked(job_request(), "text"))
    session.rollback()
    assert listener.wait(0.2) == []
    with queue.sessions() as reader:
        assert reader.query(Job).count() + reader.query(Audit).count() == 0
    queue.accept()
    assert listener.wait(10) == [""]
    listener.close()


def analysis(visibility: str = "project", **spec: object) -> JobRequest:
    fields = {"kind": "attribute", "name": "g", "coders": "c", "prompt": "a b"} | spec
    return JobRequest.model_validate({"spec": fields, "visibility": visibility})


def test_the_same_analysis_is_answered_by_the_one_that_succeeded(queue: Queue) -> None:
    inputs = {"model": "m", "coders": ["c"]}

    def ask(
        request: JobRequest, actor: Actor = queue.actor, inputs: dict[str, Any] = inputs, **options: str
    ) -> tuple[Job, bool]:
        with queue.sessions.begin() as session:
            return accept(session, actor, Asked(request, "g", inputs), **({"code_version": "1"} | options))

    def succeed(job: Job) -> None:
        with queue.sessions.begin() as session:
            values = {"state": "succeeded", "finished_at": func.now()}
            session.execute(update(Job).where(Job.id == job.id).values(values))

    first, created = ask(analysis())
    assert created
    assert ask(analysis())[1], "what has not succeeded answers nothing"
    succeed(first)
    assert ask(analysis(), idempotency_key="k")[0].id == first.id
    assert not ask(analysis(), idempotency_key="k")[1], "asked again with that key: the same answer"
    assert ask(JobRequest.model_validate(analysis().model_dump() | {"reuse": False}))[1]
    others = {
        "another prompt": ask(analysis(prompt="b a")),
        "shown to the lab": ask(analysis(visibility="lab")),
        "other coders of that name": ask(analysis(), inputs=inputs | {"coders": ["d"]}),
        "other code": ask(analysis(), code_version="2"),
        "another project": ask(analysis(), actor=make_actor(queue.sessions, "other")),
    }
    assert [why for why, (_, created) in others.items() if not created] == []
    ask(job_request(), idempotency_key="used")
    with pytest.raises(Conflict):
        ask(analysis(), idempotency_key="used")
    made = ask(job_request())[0]
    succeed(made)
    assert ask(job_request())[1], "text may have changed where it is read from: datasets are made anew"

"""Whom a job is shown to, while it moves."""

from uuid import UUID

import pytest
from sqlalchemy import select, update
from tests.support.jobs import Queue, dataset_result, uploaded

from clew_lab.catalogue.tables import Dataset, Job
from clew_lab.jobs import accept, finalise
from clew_lab.jobs.visibility import show
from clew_spec.jobs import JobRequest, JobState, Visibility


def turn(queue: Queue, job_id: UUID, to: Visibility, *, with_inputs: bool = False) -> None:
    with queue.sessions.begin() as session:
        show(session, queue.actor, job_id, to, with_inputs=with_inputs)


@pytest.mark.parametrize("to", ["lab", "project"])
def test_what_is_made_later_is_shown_as_its_job_is(queue: Queue, to: Visibility) -> None:
    job = queue.running(visibility="project" if to == "lab" else "lab")
    turn(queue, job.id, to)
    with queue.sessions.begin() as session:
        finalise.succeed(session, job.id, job.fence, dataset_result(), [uploaded(job, job.fence)])
        assert session.scalars(select(Dataset.visibility)).all() == [to]


def test_what_is_awaited_counts_as_what_it_is_made_of(queue: Queue) -> None:
    first = queue.accept(name="first")
    last = queue.accept(name="last", after=[first.id])
    turn(queue, last.id, "lab", with_inputs=True)
    assert {queue.job(job.id).visibility for job in (first, last)} == {"lab"}


def test_a_result_is_used_again_as_it_is_shown_now(queue: Queue) -> None:
    """Not as it was when it was asked for: an answer is never one that its asker's readers may not read."""
    spec = {"kind": "attribute", "name": "g", "coders": "c", "prompt": "a b"}
    hidden, shown = (JobRequest.model_validate({"spec": spec, "visibility": to}) for to in ("project", "lab"))

    def ask(request: JobRequest) -> tuple[Job, bool]:
        with queue.sessions.begin() as session:
            return accept.accept(session, queue.actor, accept.Asked(request, "g"))

    job, new = ask(hidden)
    assert new
    with queue.sessions.begin() as session:
        ended = {"state": JobState.SUCCEEDED.value, "finished_at": Job.created_at}
        session.execute(update(Job).where(Job.id == job.id).values(**ended))
    assert [ask(each)[1] for each in (hidden, shown)] == [False, True]
    turn(queue, job.id, "lab")
    assert (ask(shown)[0].id, ask(shown)[1]) == (job.id, False)
    assert ask(hidden)[1]

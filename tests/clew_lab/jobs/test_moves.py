"""Every write, against a job in every state, by its holder and by one who is not any more."""

import ast
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from tests.support.jobs import OOPS, Queue, dataset_result, uploaded

import clew_lab
from clew_lab.catalogue.tables import Job
from clew_lab.jobs import cancel, finalise, moves, reap, report
from clew_lab.jobs.moves import Fenced, move
from clew_spec.errors import Conflict
from clew_spec.jobs import MOVES, JobState

B, Q, D, R = JobState.BLOCKED, JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING
S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
FILE = {"name": "state", "key": "k", "sha256": "0" * 64, "size": 1}

HOLDERS: dict[str, tuple[Callable[[Session, Job, int], Any], JobState]] = {
    "beat": (lambda session, job, fence: report.beat(session, job.id, fence, lease_s=60), R),
    "report": (
        lambda session, job, fence: report.report(
            session, job.id, fence, [("log", {})], number=1, metrics=[(1, {"fvu": 0.5})], progress={"done": 1}
        ),
        R,
    ),
    "checkpoint": (lambda session, job, fence: report.register_checkpoint(session, job.id, fence, 7, [FILE]), R),
    "succeed": (
        lambda session, job, fence: finalise.succeed(session, job.id, fence, dataset_result(), [uploaded(job, fence)]),
        S,
    ),
    "fail": (lambda session, job, fence: finalise.fail(session, job.id, fence, OOPS, retryable=False), F),
    "fail, worth a retry": (lambda session, job, fence: finalise.fail(session, job.id, fence, OOPS, retryable=True), Q),
    "cancelled": (lambda session, job, fence: finalise.cancelled(session, job.id, fence), C),
    "preempted": (lambda session, job, fence: finalise.preempted(session, job.id, fence), Q),
    "lost": (lambda session, job, fence: finalise.lost(session, job.id, fence, OOPS, max_lost=5), Q),
}
"""What a worker writes, and where that brings a running job. From every other state it is refused."""

EVERYTHING = ["jobs", "attempts", "events", "metrics", "artifacts", "datasets", "audit"]


def everything(queue: Queue) -> list[str]:
    """All rows, as text: what a refused write must leave as it was."""
    with queue.sessions() as session:
        return [
            str(row)
            for table in EVERYTHING
            for row in session.execute(text(f"select t::text from {table} t order by 1"))  # noqa: S608  # fixed names
        ]


@pytest.mark.parametrize("action", HOLDERS)
def test_only_the_holder_of_a_running_job_writes(queue: Queue, action: str, subtests: pytest.Subtests) -> None:
    write, reached = HOLDERS[action]
    for state in JobState:
        with subtests.test(state=state.value):
            queue.clear()
            job = queue.bring(state, max_retries=1)
            fences = {job.fence - 1, job.fence, job.fence + 1} - ({job.fence} if state is R else set())
            before = everything(queue)
            for fence in sorted(fences):
                with pytest.raises(Fenced), queue.sessions.begin() as session:
                    write(session, job, fence)
            assert everything(queue) == before
            if state is R:
                with queue.sessions.begin() as session:
                    write(session, job, job.fence)
                assert queue.job(job.id).state == reached.value


@pytest.mark.parametrize(
    ("action", "reached"),
    [
        ("cancel", {B: C, Q: C, D: C, R: R, S: Conflict, F: Conflict, C: C}),
        ("claim", {D: R}),
        ("dispatch", {Q: D}),
        ("reap", {}),
        ("reap when lapsed", {D: Q, R: Q}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_others_do_to_a_job(
    queue: Queue, action: str, reached: dict[JobState, Any], subtests: pytest.Subtests
) -> None:
    for state in JobState:
        with subtests.test(state=state.value):
            queue.clear()
            job = queue.bring(state)
            worker = queue.register("free") if action in ("claim", "dispatch") else None
            expected = reached.get(state, state)
            if expected is Conflict:
                with pytest.raises(Conflict):
                    _do(queue, action, job)
                expected = state
            else:
                _do(queue, action, job)
            after = queue.job(job.id)
            assert after.state == expected.value
            if state is R and action == "cancel":
                assert after.cancel_requested
            if (state, action) == (D, "claim"):
                assert after.worker_id is not None
                assert after.worker_id != worker
            _is_whole(queue, after)


def _do(queue: Queue, action: str, job: Job) -> None:
    with queue.sessions.begin() as session:
        match action:
            case "cancel":
                cancel.cancel(session, queue.actor, job.id)
            case "reap":
                reap.reap(session, max_lost=5)
    match action:
        case "claim":
            assert queue.claim(job.id, job.fence, "free") is None, "the bell was not for this worker"
            assert (queue.claim(job.id, job.fence) is not None) == (job.state == D.value)
            assert queue.claim(job.id, job.fence) is None, "a doubled bell claims twice"
        case "dispatch":
            queue.dispatch()
        case "reap when lapsed":
            if job.lease_expires_at is not None:
                queue.lapse(job.id)
            with queue.sessions.begin() as session:
                reap.reap(session, max_lost=5)


def _is_whole(queue: Queue, job: Job) -> None:
    """The events tell the job's story: no number missing, each move one of the allowed, the last one the state."""
    with queue.sessions() as session:
        rows = session.execute(
            text("select seq, type, data from events where job_id = :id order by seq"), {"id": job.id}
        ).all()
    assert [row.seq for row in rows] == list(range(1, job.last_seq + 1))
    states = [row.data for row in rows if row.type == "state"]
    for earlier, later in pairwise(states):
        assert later["from"] == earlier["state"]
        same = later["state"] == later["from"]
        assert same or JobState(later["state"]) in MOVES[JobState(later["from"])]
    assert states[-1]["state"] == job.state


def test_move_refuses_what_is_not_in_the_table(queue: Queue) -> None:
    for origin in JobState:
        for to in set(JobState) - MOVES[origin]:
            queue.clear()
            job = queue.bring(origin)
            with pytest.raises(Conflict), queue.sessions.begin() as session:
                move(session, moves.lock(session, job.id), to, lease_s=1)


def test_nothing_else_writes_a_jobs_state() -> None:
    root = Path(clew_lab.__file__).parent.parent.parent
    folders = ("shared/clew_lab", "services/clew_api", "services/clew_scheduler", "services/clew_worker")
    places = {
        path.name
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if "migrations" not in path.parts
        if any(map(_writes_a_jobs_state, ast.walk(ast.parse(path.read_text()))))
    }
    assert places == {"moves.py"}


def _writes_a_jobs_state(node: ast.AST) -> bool:
    """`job.state = ...`, `update(Job)...values(state=...)`, or SQL that does the same."""
    match node:
        case ast.Attribute(value=ast.Name(id="job"), attr="state", ctx=ast.Store()):
            return True
        case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords):
            return any(keyword.arg == "state" for keyword in keywords) and "update(Job)" in ast.unparse(node)
        case ast.Constant(value=str() as sql):
            assigned = re.search(
                r"\bupdate\s+jobs\b.*?\bset\b(.*?)(\b(from|where)\b|$)", sql, re.IGNORECASE | re.DOTALL
            )
            return assigned is not None and re.search(r"\bstate\s*=", assigned[1]) is not None
    return False

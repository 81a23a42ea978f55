"""The ways an attempt may end, each one transaction yet to be made."""

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from clew_lab.catalogue.publish import Uploaded
from clew_lab.jobs import finalise
from clew_spec.errors import Problem
from clew_spec.results import Result
from clew_worker.supervisor.batch import plain

Ending = Callable[[Session], None]


class GivenUp(Exception):
    """Nothing more is waited for: end like this."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending


class Endings:
    """Of one attempt at one job."""

    def __init__(self, job_id: UUID, fence: int, *, max_lost: int) -> None:
        self._key = (job_id, fence)
        self._max_lost = max_lost

    def succeeded(self, result: Result, files: Sequence[Uploaded]) -> Ending:
        return lambda session: finalise.succeed(session, *self._key, result, files)

    def failed(self, problem: Problem, *, retryable: bool) -> Ending:
        problem = problem.model_copy(update={"detail": plain(problem.detail)})
        return lambda session: finalise.fail(session, *self._key, problem, retryable=retryable)

    def cancelled(self) -> Ending:
        return lambda session: finalise.cancelled(session, *self._key)

    def preempted(self, *, draining: bool) -> Ending:
        reason = "drained" if draining else "preempted"
        return lambda session: finalise.preempted(session, *self._key, reason=reason)

    def lost(self, problem: Problem) -> Ending:
        problem = problem.model_copy(update={"detail": plain(problem.detail)})
        return lambda session: finalise.lost(session, *self._key, problem, max_lost=self._max_lost)

    def runner_lost(self, detail: str) -> Ending:
        return self.lost(Problem(type="urn:clew:runner-lost", title="The runner was lost", status=500, detail=detail))

    def not_recorded(self, error: Exception) -> Ending:
        reason = str(getattr(error, "orig", error)) or type(error).__name__
        detail = f"what the job made could not be recorded: {reason}"
        problem = Problem(type="urn:clew:not-recorded", title="The result was refused", status=500, detail=detail)
        return self.failed(problem, retryable=False)

    def supervisor_failed(self, error: Exception) -> Ending:
        detail = f"the supervisor failed: {type(error).__name__}"
        return self.lost(Problem(type="urn:clew:error", title="Clew failed", status=500, detail=detail))

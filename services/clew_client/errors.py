"""What can go wrong on this side of the wire, beyond the errors the API reports."""

from clew_spec.api import JobSummary
from clew_spec.errors import ClewError
from clew_spec.jobs import JobState


class JobFailed(ClewError):
    """A job that was waited for ended, and not well. Carries the job, whose `error` is the Problem."""

    code = "job-failed"
    title = "The job did not succeed"
    status = 500

    def __init__(self, job: JobSummary) -> None:
        problem = job.error
        if job.state is JobState.CANCELLED:
            detail = f"job {job.name} was cancelled"
        else:
            detail = f"job {job.name} failed" + (f": {problem.detail}" if problem else "")
        super().__init__(
            detail,
            where=problem.where if problem else None,
            expected=problem.expected if problem else None,
            hint=problem.hint if problem else None,
            errors=problem.errors if problem else None,
        )
        self.job = job


class CorruptDownload(ClewError):
    """What arrived is not what the catalogue recorded; nothing was left on disk."""

    code = "corrupt-download"
    title = "The download is not the artifact"
    status = 502


class UnexpectedAnswer(ClewError):
    """The other side is not a Clew API, or not of this version."""

    code = "unexpected-answer"
    title = "The server's answer was not understood"
    status = 502

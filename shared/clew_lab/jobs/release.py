"""When what a job waits for is there, it is queued; where that will never be there, it ends.

A job that waits knows only the jobs that it waits for. Once these have succeeded its references are looked up, by the
same checks as of a job that is submitted then; a reference that proves not to fit fails the job.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy.exc
import structlog
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker
from tokenizers import Tokenizer

from clew_lab.catalogue import refs
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Artifact, Job, Project
from clew_lab.jobs.accept import Asked, content_digest
from clew_lab.jobs.dependents import ended, needed
from clew_lab.jobs.estimates import facts_of
from clew_lab.jobs.moves import locked, move
from clew_lab.jobs.needs import needs_of
from clew_lab.jobs.quotas import require_space
from clew_spec.errors import ClewError, Conflict, Unavailable
from clew_spec.estimates import estimate
from clew_spec.jobs import JobRequest, JobState

log = structlog.get_logger("clew_lab.release")
BATCH = 100
MAX_DETAIL = 1000
_request: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)

_DUE = text("""
    with needed as (
        select jobs.id, bool_and(made.state = 'succeeded') as all_made, bool_or(made.state in ('failed', 'cancelled'))
               as in_vain
        from jobs join dependencies on dependencies.job_id = jobs.id join jobs made on made.id = dependencies.on_id
        where jobs.state = 'blocked' and jobs.id <> all(cast(:without as uuid[]))
        group by jobs.id
    )
    select id from needed where all_made or in_vain order by id limit :limit
""")


class NotReleased(ClewError):
    code = "not-released"
    title = "The job could not be queued when what it waited for was there"


def due(session: Session, limit: int = BATCH, without: Iterable[UUID] = ()) -> list[UUID]:
    """Jobs whose wait is over, the oldest first. without: those that are to be left alone for now."""
    return list(session.scalars(_DUE, {"limit": limit, "without": list(without)}))


def release(
    sessions: sessionmaker[Session],
    job_id: UUID,
    *,
    tokenizer_of: Callable[[Artifact], Tokenizer],
    import_roots: Sequence[Path],
    code_version: str,
) -> None:
    """Queue or end one job that is due; any number of processes may do so.

    One that cannot be queued, for whatever reason, fails. Raises `Unavailable`, or what the database raises: try again
    later.
    """
    with sessions.begin() as session:
        job = session.scalar(locked(Job.id == job_id, Job.state == JobState.BLOCKED.value))
        if job is None:
            return
        for made in needed(session, job_id):
            if made.state in (JobState.FAILED, JobState.CANCELLED):
                _end(session, job, made)
                return
        actor = _actor(session, job)
    try:
        request = request_of(job)
        with sessions.begin() as session:
            resolved = refs.resolve(session, actor, request.spec, import_roots=import_roots)
        tokens = None
        if resolved.tokenizer is not None:
            tokens = refs.check_text(request.spec, resolved, tokenizer_of(resolved.tokenizer))
        with sessions.begin() as session:
            facts = facts_of(session, resolved.inputs, prompt_tokens=tokens)
            needs = needs_of(request.spec, facts, request.requests)
            asked = Asked(request, resolved.name, resolved.inputs, needs, estimate(request.spec, facts).published_bytes)
        with sessions.begin() as session:
            _queue(session, job_id, asked, code_version)
    except Exception as raised:
        if _may_pass(raised):
            raise
        if not isinstance(raised, ClewError):
            log.exception("not_released", job_id=job_id)
        with sessions.begin() as session:
            _fail(session, job_id, raised if isinstance(raised, ClewError) else _unforeseen(raised))


def _may_pass(raised: Exception) -> bool:
    """Whether it says something of a server, and nothing of the job."""
    of_the_job = (sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError)
    return isinstance(raised, Unavailable | sqlalchemy.exc.DBAPIError) and not isinstance(raised, of_the_job)


def _unforeseen(raised: Exception) -> ClewError:
    """What a job is told that no check of ours refused: a spec of another version, say, or a broken tokenizer."""
    if isinstance(raised, ValidationError):
        fault = raised.errors(include_input=False, include_url=False)[0]
        where = "/".join(map(str, fault["loc"]))
        return NotReleased(
            "this version of Clew does not take the job as it was accepted", expected=fault["msg"], where=where
        )
    said = str(getattr(raised, "orig", raised)).replace("\x00", "\N{REPLACEMENT CHARACTER}")[:MAX_DETAIL]
    return NotReleased(f"what it waited for is there, but {type(raised).__name__} was raised: {said}")


def request_of(job: Job) -> JobRequest:
    """What was asked for."""
    priority = {-1: "low", 0: "normal", 1: "high"}[job.priority]
    return _request.validate_python(
        {
            "spec": job.spec,
            "priority": priority,
            "max_retries": job.max_retries,
            "visibility": job.visibility,
            "requests": job.requests,
        }
    )


def _queue(session: Session, job_id: UUID, asked: Asked, code_version: str) -> None:
    """Raises `OverQuota`."""
    job = session.scalar(locked(Job.id == job_id, Job.state == JobState.BLOCKED.value))
    if job is None:  # cancelled meanwhile, or released by another
        return
    require_space(session, job.project_id, asked.expected_bytes, counted=job.expected_bytes)
    job.name = asked.name
    job.inputs = asked.inputs
    job.expected_bytes = asked.expected_bytes
    for column, value in asked.needs.columns.items():
        setattr(job, column, value)
    job.content_digest = content_digest(asked.request, asked.inputs, code_version)
    move(session, job, JobState.QUEUED, reason="inputs are there")


def _end(session: Session, job: Job, made: Job) -> None:
    """As what it waited for has."""
    error = Conflict(
        f"job {made.name} ({made.kind}), which it waited for, has {ended(made)}",
        hint=f"retry that one with what depends on it: POST /api/v1/jobs/{made.id}/retry?with_dependents=true",
    )
    _over(session, job, JobState(made.state), error, needed=str(made.id))


def _fail(session: Session, job_id: UUID, error: ClewError) -> None:
    job = session.scalar(locked(Job.id == job_id, Job.state == JobState.BLOCKED.value))
    if job is not None:
        _over(session, job, JobState.FAILED, error)


def _over(session: Session, job: Job, state: JobState, error: ClewError, **data: Any) -> None:
    job.error = error.problem().model_dump(mode="json", exclude_none=True)
    move(session, job, state, reason="inputs are not there", error=job.error, **data)


def _actor(session: Session, job: Job) -> Actor:
    """For whom the references are looked up: whoever submitted the job, in its project."""
    name = session.scalars(select(Project.name).where(Project.id == job.project_id)).one()
    return Actor(job.project_id, name, job.created_by, None, job.user_id)

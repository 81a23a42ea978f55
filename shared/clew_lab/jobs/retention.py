"""Which objects nobody will ever read: those of attempts that published nothing, and of spent checkpoints."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Text, and_, cast, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from clew_lab.catalogue.tables import Artifact, Attempt, Job
from clew_lab.storage import attempt_prefix
from clew_spec.jobs import TERMINAL, JobState


@dataclass(frozen=True)
class Leftover:
    """All below `prefix` may go, but `keep`: what was published."""

    job_id: UUID
    fence: int
    prefix: str
    keep: frozenset[str]


def leftovers(
    session: Session, *, after_s: float, checkpoints_after_s: float | None = None, limit: int = 50
) -> list[Leftover]:
    """Attempts of jobs that ended `after_s` ago or earlier. Until then a fenced attempt may still be uploading.

    checkpoints_after_s: the same for attempts with the last checkpoint of a job that did not succeed, if that is
    longer; and as long as an unfinished job that tries it again goes on from it.
    """
    ended = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, after_s)
    kept_until = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, max(after_s, checkpoints_after_s or 0))
    again = aliased(Job)
    continued = exists().where(
        again.retry_of.is_not(None),
        again.project_id == Job.project_id,
        again.state.not_in([state.value for state in TERMINAL]),
        again.checkpoint["job_id"].astext == cast(Attempt.job_id, Text),
    )
    may_go_on = and_(
        Job.state.in_([JobState.FAILED.value, JobState.CANCELLED.value]),
        Job.checkpoint["fence"].astext == cast(Attempt.fence, Text),
        or_(Job.finished_at >= kept_until, continued),
    )
    attempts = session.scalars(
        select(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(~Attempt.collected, Job.state.in_([state.value for state in TERMINAL]), Job.finished_at < ended)
        .where(~func.coalesce(may_go_on, False))
        .order_by(Job.finished_at)
        .limit(limit)
    )
    return [_leftover(session, attempt) for attempt in attempts]


def collected(session: Session, leftover: Leftover) -> None:
    session.execute(
        update(Attempt).where(Attempt.job_id == leftover.job_id, Attempt.fence == leftover.fence).values(collected=True)
    )


def _leftover(session: Session, attempt: Attempt) -> Leftover:
    prefix = attempt_prefix(attempt.project_id, attempt.job_id, attempt.fence)
    # Another job of the project may have published a file of equal content under this attempt's key.
    published = select(Artifact.key).where(
        Artifact.project_id == attempt.project_id, Artifact.key.startswith(prefix, autoescape=True)
    )
    return Leftover(attempt.job_id, attempt.fence, prefix, frozenset(session.scalars(published)))

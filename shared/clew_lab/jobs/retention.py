"""Which objects nobody will ever read: those of attempts that published nothing, and of spent checkpoints."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Artifact, Attempt, Job
from clew_lab.storage import attempt_prefix
from clew_spec.jobs import TERMINAL


@dataclass(frozen=True)
class Leftover:
    """All below `prefix` may go, but `keep`: what was published."""

    job_id: UUID
    fence: int
    prefix: str
    keep: frozenset[str]


def leftovers(session: Session, *, after_s: float, limit: int = 50) -> list[Leftover]:
    """Attempts of jobs that ended `after_s` ago or earlier. Until then a fenced attempt may still be uploading."""
    ended = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, after_s)
    attempts = session.scalars(
        select(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(~Attempt.collected, Job.state.in_([state.value for state in TERMINAL]), Job.finished_at < ended)
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

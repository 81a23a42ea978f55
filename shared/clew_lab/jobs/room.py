"""Make room for jobs that no free worker can run: keep one that will be free, or have a low job give way."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Worker
from clew_lab.jobs.cancel import preempt
from clew_lab.jobs.choice import Candidate, Choice
from clew_lab.jobs.needs import FITS
from clew_spec.jobs import JobState

LOW = -1

_SOON = text(f"""
    select workers.id
    from workers
    join jobs on jobs.id = :job_id
    join jobs held on held.worker_id = workers.id and held.state in ('dispatched', 'running')
    where workers.id = any(:workers) and {FITS}
    order by held.preempt_requested desc, cast(held.progress ->> 'eta_s' as float) nulls last, held.started_at
    limit 1
""")  # noqa: S608  # a fixed text


@dataclass
class Holder:
    """A live worker and what it holds."""

    id: UUID
    name: str
    pool: str
    job_id: UUID | None = None
    state: str | None = None
    priority: int | None = None
    preempt_requested: bool = False
    started_at: datetime | None = None
    kept: Candidate | None = None

    @property
    def makes_room(self) -> bool:
        """Whether it runs a job that gives way to high ones."""
        return self.state == JobState.RUNNING.value and self.priority == LOW and self.started_at is not None


def reserve(session: Session, passed: Sequence[Candidate], holders: Sequence[Holder]) -> None:
    """Keep for each job the worker that fits it and will be free first, as far as that can be told."""
    reserved = {holder.kept.id for holder in holders if holder.kept is not None}
    open_ = [holder.id for holder in holders if holder.job_id is not None and holder.kept is None]
    for job in passed:
        if job.id in reserved or not open_:
            continue
        worker_id = session.scalar(_SOON, {"job_id": job.id, "workers": open_})
        if worker_id is not None:
            session.execute(update(Worker).where(Worker.id == worker_id).values(reserved_for=job.id))
            open_.remove(worker_id)


def preempt_for(session: Session, choice: Choice, holders: Sequence[Holder]) -> None:
    """Ask the jobs of the chosen workers to give way, as far as they have not been asked."""
    of_worker = {holder.id: holder for holder in holders}
    for _, worker_id in choice.given:
        holder = of_worker[worker_id]
        if holder.job_id is not None and not holder.preempt_requested:
            preempt(session, holder.job_id)

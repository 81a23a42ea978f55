"""What a bell sets in motion."""

import time
from uuid import UUID

import structlog

from clew_lab.jobs.claim import claim
from clew_worker.supervisor import monitoring
from clew_worker.supervisor.attempt import Attempt
from clew_worker.supervisor.worker import Worker, trim

log = structlog.get_logger("clew_worker.task")


def run_job(worker: Worker, job_id: UUID, fence: int) -> None:
    """Claim the job and carry it through; a stale or doubled bell finds nothing to claim."""
    if worker.draining.is_set() or worker.id is None:
        return
    claimed_at = time.monotonic()
    with worker.sessions.begin() as session:
        job = claim(session, job_id, fence, worker.id, lease_s=worker.settings.running_lease_s)
    if job is None:
        log.info("stale_bell", job_id=str(job_id), fence=fence)
        return
    told = structlog.contextvars.bound_contextvars(job_id=str(job_id), fence=fence, worker=worker.name)
    with told, monitoring.BUSY.track_inprogress(), monitoring.ATTEMPT_S.labels(job.kind).time():
        Attempt(worker, job, claimed_at=claimed_at).run()
    trim(worker.folder / "cache", worker.settings.cache_bytes)

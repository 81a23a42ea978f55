"""Delete what lies in the object store and nobody can reach: leftovers of ended jobs, and uploads that expired."""

import structlog
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue import uploads
from clew_lab.jobs.retention import collected, leftovers
from clew_lab.storage import Multipart, Store
from clew_scheduler.helper import Helper

log = structlog.get_logger("clew_scheduler.retention")


def sweep(
    sessions: sessionmaker[Session], store: Store, *, after_s: float, checkpoints_after_s: float | None = None
) -> int:
    """Delete the leftovers of some attempts; returns of how many. Harmless to do twice, or side by side."""
    with sessions() as session:
        found = leftovers(session, after_s=after_s, checkpoints_after_s=checkpoints_after_s)
    for leftover in found:
        deleted = store.delete_prefix(leftover.prefix, keep=leftover.keep)
        with sessions.begin() as session:
            collected(session, leftover)
        log.info("collected", job_id=leftover.job_id, fence=leftover.fence, objects=deleted)
    return len(found)


def sweep_uploads(sessions: sessionmaker[Session], store: Store) -> int:
    """Delete some uploads whose time is over, their unjoined parts too; returns how many. Harmless as `sweep` is."""
    with sessions() as session:
        found = uploads.expired(session)
    parts = Multipart(store)
    for upload in found:
        for key, multipart_id in upload.sent:
            parts.abort(key, multipart_id)
        deleted = store.delete_prefix(upload.prefix)
        with sessions.begin() as session:  # last: until then a sweep that was cut short begins anew
            uploads.forget(session, upload.id)
        log.info("upload_expired", upload_id=str(upload.id), objects=deleted)
    return len(found)


def retention_helper(
    sessions: sessionmaker[Session],
    store: Store,
    *,
    after_s: float,
    checkpoints_after_s: float,
    every_s: float = 60,
) -> Helper:
    """Sweeps now and then, and goes on at once as long as there is more."""

    def turn() -> float:
        more = sweep(sessions, store, after_s=after_s, checkpoints_after_s=checkpoints_after_s)
        return 0.0 if more or sweep_uploads(sessions, store) else every_s

    return Helper("retention", turn)

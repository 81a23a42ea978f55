"""Try a job again that ended without success.

A job ends once, so what tries it again is a new job, linked to it: of the same spec, with the same records for inputs,
going on from its last checkpoint while that is kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit, queries, scope
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Attempt, Batch, Job, Metric
from clew_lab.jobs.accept import digest
from clew_lab.jobs.batches import insert_jobs, new_ids
from clew_lab.jobs.dependents import behind, ended, job_of, needed
from clew_lab.jobs.moves import lock
from clew_lab.jobs.quotas import require_space
from clew_spec.batches import REFERENCES
from clew_spec.errors import Conflict
from clew_spec.jobs import TERMINAL, JobState

AGAIN = (JobState.FAILED, JobState.CANCELLED)
_SAME = (
    *("project_id", "visibility", "kind", "name", "pool", "priority", "max_retries", "requests", "batch_id", "step"),
    *("needs_gpus", "needs_cpus", "needs_gpu_memory", "needs_ram", "needs_ram_alone", "content_digest"),
    "expected_bytes",
)
MARGIN_S = 60.0
"""Objects are deleted this much later than they are promised, so that who was told they are there still finds them."""


def retry(
    session: Session,
    actor: Actor,
    job_id: UUID,
    *,
    with_dependents: bool = False,
    kept_s: float,
    idempotency_key: str | None = None,
    request_id: str | None = None,
) -> tuple[Job, bool]:
    """The job that tries this one again, and whether it is new; with it, those that waited for it in vain.

    kept_s: how long the checkpoints of such jobs are kept. Raises `NotFound` where the job is not the project's,
    `Conflict` where it has not ended or has succeeded, is being tried again, or waited for one that failed itself, and
    `OverQuota`.
    """
    scope.get(session, actor, Job, job_id, write=True)
    job = lock(session, job_id)  # two who ask at once are one after the other
    asked = digest({"retry": str(job_id), "with_dependents": with_dependents})
    if idempotency_key is not None:
        earlier = queries.job_of_idempotency_key(session, actor, idempotency_key)
        if earlier is not None:
            if earlier.request_digest != asked:
                raise Conflict(f"the idempotency key {idempotency_key!r} was used for another request")
            return earlier, False
    _require_ended(session, job)
    jobs = [job]
    if with_dependents:
        others = scope.owned(actor, Job).where(Job.id.in_(behind(session, [job_id])), Job.state.in_(AGAIN))
        jobs += session.scalars(others.order_by(Job.id))
    again = _again(session, actor, jobs, kept_s=kept_s, first={"request_digest": asked}, key=idempotency_key)
    audit.record(
        session,
        actor,
        "job.retried",
        job_id,
        project_id=job.project_id,
        request_id=request_id,
        jobs=[str(id) for id in again.values()],
    )
    return session.get_one(Job, again[job_id]), True


def retry_batch(
    session: Session, actor: Actor, batch: Batch, *, kept_s: float, request_id: str | None = None
) -> list[UUID]:
    """Try again those jobs of a sweep or pipeline that ended without success and are not being tried again."""
    tried = select(Job.retry_of).where(Job.retry_of.is_not(None), Job.batch_id == batch.id)
    over = scope.owned(actor, Job).where(Job.batch_id == batch.id, Job.state.in_(AGAIN), Job.id.not_in(tried))
    jobs = session.scalars(over.order_by(Job.id)).all()
    if not jobs:
        raise Conflict(f"no job of the {batch.kind} {batch.name} can be tried again", expected="failed or cancelled")
    again = _again(session, actor, jobs, kept_s=kept_s, first={}, key=None)
    audit.record(
        session,
        actor,
        f"{batch.kind}.retried",
        batch.id,
        project_id=batch.project_id,
        request_id=request_id,
        jobs=len(again),
    )
    return list(again.values())


def _require_ended(session: Session, job: Job) -> None:
    if job.state not in AGAIN:
        done = job.state == JobState.SUCCEEDED
        raise Conflict(
            f"job {job.id} has succeeded" if done else f"job {job.id} has not ended: it is {job.state}",
            expected="a job that failed or was cancelled",
            hint="submit its spec anew to run it once more" if done else "cancel it first",
        )
    going = select(Job.id).where(Job.retry_of == job.id, Job.state.not_in(TERMINAL)).limit(1)
    if (id := session.scalar(going)) is not None:
        raise Conflict(f"job {job.id} is being tried again already", hint=f"by job {id}")


def _again(
    session: Session, actor: Actor, jobs: Sequence[Job], *, kept_s: float, first: Mapping[str, Any], key: str | None
) -> dict[UUID, UUID]:
    """New jobs for these, which refer to each other as those did; returns new ids by old ones."""
    ids = dict(zip((job.id for job in jobs), new_ids(session, len(jobs)), strict=True))
    rows: list[dict[str, Any]] = []
    after: dict[UUID, list[UUID]] = {}
    for job in jobs:
        replaced = {other.id: ids.get(other.id) or _newest(session, other) for other in needed(session, job.id)}
        # What was never queued has no inputs; where one of them is made anew, it takes that one.
        waits = replaced and (not job.inputs or any(old in ids for old in replaced))
        row = {name: getattr(job, name) for name in _SAME} | {
            "id": ids[job.id],
            "retry_of": job.id,
            "spec": _renamed(job.spec, replaced),
            "inputs": {} if waits else job.inputs,
            "state": (JobState.BLOCKED if waits else JobState.QUEUED).value,
            "request_digest": job.request_digest,
            "idempotency_key": None,
            "created_by": actor.key_id,
            "user_id": actor.user_id,
        }
        if waits:
            after[ids[job.id]] = list(replaced.values())
        rows.append(row)
    rows[0] |= {**first, "idempotency_key": key}
    require_space(session, actor.project_id, sum(job.expected_bytes for job in jobs))
    insert_jobs(session, rows, after)
    for job in jobs:
        if ids[job.id] not in after and (checkpoint := _checkpoint(session, job, kept_s)) is not None:
            _go_on(session, job, ids[job.id], checkpoint)
    return ids


def _newest(session: Session, job: Job) -> UUID:
    """The job itself, or what tries it again and has not failed too. Raises `Conflict` where there is none."""
    while job.state in AGAIN:
        newer = session.scalar(select(Job).where(Job.retry_of == job.id).order_by(Job.id.desc()).limit(1))
        if newer is None:
            raise Conflict(
                f"it depends on job {job.id} ({job.kind} {job.name}), which has {ended(job)}",
                hint=f"retry that one with what depends on it: POST /api/v1/jobs/{job.id}/retry?with_dependents=true",
            )
        job = newer
    return job.id


def _renamed(spec: dict[str, Any], replaced: Mapping[UUID, UUID]) -> dict[str, Any]:
    made = dict(spec)
    for field in REFERENCES:
        ref = made.get(field)
        if isinstance(ref, str) and (id := job_of(ref)) is not None and id in replaced:
            made[field] = str(replaced[id]) + ref[ref.find("/") :] * ("/" in ref)
    return made


def _checkpoint(session: Session, job: Job, kept_s: float) -> dict[str, Any] | None:
    """The job's last one, while its files are sure to be there."""
    if job.checkpoint is None:
        return None
    origin = UUID(job.checkpoint.get("job_id", str(job.id)))
    kept = (
        select(Attempt.fence)
        .join(Job, Job.id == Attempt.job_id)
        .where(
            Attempt.job_id == origin,
            Attempt.fence == job.checkpoint["fence"],
            ~Attempt.collected,
            Job.finished_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, kept_s - MARGIN_S),
        )
    )
    return None if session.scalar(kept) is None else {**job.checkpoint, "job_id": str(origin)}


def _go_on(session: Session, job: Job, new_id: UUID, checkpoint: dict[str, Any]) -> None:
    """What was measured up to the checkpoint is measured: the new job's curves begin with it."""
    session.execute(update(Job).where(Job.id == new_id).values(checkpoint=checkpoint))
    known = select(
        Metric.project_id, literal(new_id), Metric.name, Metric.step, literal(0), Metric.value, Metric.hidden
    ).where(Metric.job_id == job.id, Metric.step <= checkpoint["step"], ~Metric.hidden)
    names = ["project_id", "job_id", "name", "step", "fence", "value", "hidden"]
    session.execute(insert(Metric).from_select(names, known))

"""What waits for what."""

from collections.abc import Collection, Iterable
from typing import Any, cast
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import once
from clew_lab.catalogue.finding import coders_and_model, find
from clew_lab.catalogue.scope import Actor, owned
from clew_lab.catalogue.tables import Coder, Dataset, Dependency, Graph, Job, Model
from clew_spec.batches import RefField, references, require_maker
from clew_spec.errors import InvalidSpec
from clew_spec.jobs import JobKind, JobSpec, JobState

_BEHIND = text("""
    with recursive behind (id) as (
        select job_id from dependencies where on_id = any(:ids)
        union
        select dependencies.job_id from dependencies join behind on dependencies.on_id = behind.id
    )
    select id from behind order by id
""")


def behind(session: Session, job_ids: Iterable[UUID]) -> list[UUID]:
    """All jobs that wait, or waited, for one of these, directly or through others."""
    return list(session.scalars(_BEHIND, {"ids": list(job_ids)}))


def needed(session: Session, job_id: UUID) -> list[Job]:
    """The jobs that this one waits, or waited, for."""
    return list(
        session.scalars(
            select(Job).join(Dependency, Dependency.on_id == Job.id).where(Dependency.job_id == job_id).order_by(Job.id)
        )
    )


def job_of(ref: str) -> UUID | None:
    """The job that a reference names: by its UUID, perhaps with `/{variant}` behind it."""
    try:
        return UUID(ref.partition("/")[0])
    except ValueError:
        return None


def unfinished(session: Session, actor: Actor, spec: JobSpec, coming: Collection[UUID] = ()) -> dict[UUID, str]:
    """The actor's own jobs that are yet to make what the spec refers to, and their names.

    coming: jobs that are submitted together with this one. Raises `InvalidSpec` where such a job has ended without it,
    or is of a kind that does not make it.
    """
    named = {field: id for field, ref in references(spec).items() if (id := job_of(ref)) is not None}
    found = {id: "" for id in named.values() if id in coming}
    wanted = frozenset(id for id in named.values() if id not in found)
    there = owned(actor, Job).where(Job.id.in_(wanted))
    jobs = once(session, wanted, lambda: {job.id: job for job in session.scalars(there)}) if wanted else {}
    for field, id in named.items():
        job = jobs.get(id)
        if job is None or job.state == JobState.SUCCEEDED:
            continue
        where = f"/spec/{field}"
        require_maker(cast(JobKind, job.kind), field, f"job {id}", where)
        if JobState(job.state).terminal:
            hint = f"retry it first: POST /api/v1/jobs/{id}/retry"
            raise InvalidSpec(f"job {id} has {ended(job)} and made no {field}", where=where, hint=hint)
        found[id] = job.name
    return found


def check_others(session: Session, actor: Actor, spec: JobSpec, after: Collection[UUID]) -> None:
    """Raises `InvalidSpec` for what the spec refers to beside the jobs that it waits for, and that is not there."""
    tables: dict[RefField, type[Any]] = {"model": Model, "dataset": Dataset, "coders": Coder, "graph": Graph}
    for field, ref in references(spec).items():
        if job_of(ref) in after:
            continue
        if field == "coders":
            coders_and_model(session, actor, ref)
        else:
            find(session, actor, tables[field], ref, f"/spec/{field}")


def ended(job: Job) -> str:
    """`failed`, `succeeded` or `been cancelled`: behind `has`."""
    return "been cancelled" if job.state == JobState.CANCELLED else job.state

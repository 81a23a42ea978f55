"""Show a job and what it made to the whole lab, or keep them to the project again."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import func, select, union, update
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit, scope
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Coder, Dataset, Dependency, Graph, Job, Model
from clew_lab.catalogue.views import parents
from clew_lab.jobs.moves import locked
from clew_lab.jobs.notify import notify_job
from clew_spec.jobs import Visibility
from clew_spec.people import Permission

RECORDS = (Model, Dataset, Coder, Graph)


def show(
    session: Session,
    actor: Actor,
    job_id: UUID,
    to: Visibility,
    *,
    with_inputs: bool = False,
    request_id: str | None = None,
) -> None:
    """Of the job and the records that it made, or will make. Asking again changes nothing.

    with_inputs: also of the project's own jobs that made what it was made of, however far back. What others were
    accepted with while they saw it stays theirs to use.
    Raises `NotFound` where the job is not the project's; `Forbidden`, and changes none, where one of them is another
    member's and the actor does not manage the project's jobs.
    """
    job = scope.get(session, actor, Job, job_id, write=True)
    jobs = [job, *_makers(session, actor, job)] if with_inputs else [job]
    if not all(actor.submitted(each) for each in jobs):
        actor.require(Permission.JOB_MANAGE)
    # The rows are locked before their records are changed: what a job publishes meanwhile is there by then.
    others = locked(Job.id.in_([each.id for each in jobs]), Job.visibility != to).order_by(Job.id)
    for each in session.scalars(others).all():
        each.visibility = to
        each.updated_at = func.now()
        for table in RECORDS:
            own = (table.project_id == each.project_id, table.job_id == each.id)
            session.execute(update(table).where(*own).values(visibility=to))
        audit.record(
            session,
            actor,
            "job.visibility_changed",
            each.id,
            project_id=each.project_id,
            request_id=request_id,
            visibility=to,
        )
        notify_job(session, each.id)
    session.flush()


def _makers(session: Session, actor: Actor, job: Job) -> Iterable[Job]:
    """The project's jobs that made, or are to make, what the job is made of, and what those are made of."""
    found: dict[UUID, Job] = {}
    look = [job]
    while look:
        ids = {id for each in look for id in parents(each.inputs)}
        made = [
            select(table.job_id).where(table.project_id == actor.project_id, table.id.in_(ids)) for table in RECORDS
        ]
        awaited = select(Dependency.on_id).where(Dependency.job_id.in_([each.id for each in look]))
        makers = session.scalars(union(*made, awaited)).all()
        look = list(session.scalars(scope.owned(actor, Job).where(Job.id.in_(set(makers) - found.keys()))))
        found |= {each.id: each for each in look}
    return found.values()

"""What may be read, through the scope, in the shapes of `clew_spec.api`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import TEXT, Select, and_, cast, extract, func, literal, select, text, union_all
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, defer

from clew_lab.catalogue import views
from clew_lab.catalogue.engine import once
from clew_lab.catalogue.newest import newest_jobs, newest_of_person
from clew_lab.catalogue.pages import decode_cursor, page
from clew_lab.catalogue.scope import Actor, get, may_reach, may_read, owned, readable, submitted_by
from clew_lab.catalogue.standings import standing_view
from clew_lab.catalogue.tables import (
    Artifact,
    Attempt,
    Batch,
    Coder,
    Dataset,
    Dependency,
    Event,
    Graph,
    Job,
    Model,
    Project,
    Queue,
    Standing,
    User,
    Worker,
)
from clew_spec.api import (
    CoderView,
    DatasetView,
    EventView,
    GraphDetail,
    GraphView,
    JobSummary,
    JobView,
    LinkedJob,
    ModelView,
    Page,
    View,
    WorkerView,
)
from clew_spec.jobs import JobKind, JobState

V = TypeVar("V", bound=View)

LINKED = 100
"""Jobs of each sort that are told with a job."""
ANALYSES = 100
"""Jobs of a graph that are told with it."""
EVENTS_AT_ONCE = 500
CHANGES_AT_ONCE = 500
"""Of more jobs that changed between two looks it is told only that they did."""
LOGGED = ("log", "state", "checkpoint", "artifact")
"""What a log tells of: not the metrics and the progress, which come by the second and are shown elsewhere."""
WORKER_MEMORY = "1 hour"
"""A worker that has been silent for longer is no longer listed."""


def list_jobs(
    session: Session,
    actor: Actor,
    *,
    states: Sequence[JobState] = (),
    kinds: Sequence[JobKind] = (),
    user: str | None = None,
    batch: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[JobSummary]:
    """user: only what the person of this name submitted in the actor's project; `me` is the actor."""
    before = None if cursor is None else decode_cursor(cursor)
    statement = job_summaries(actor)
    if batch is not None:
        wanted = [Job.state.in_(states)] * bool(states) + [Job.kind.in_(kinds)] * bool(kinds)
        statement = statement.where(Job.project_id == actor.project_id, Job.batch_id == batch, *wanted)
        if user is not None:
            statement = statement.where(submitted_by(actor, Job, user))
    elif user is not None:
        of_person = newest_of_person(actor, user, states=states, kinds=kinds, before=before, limit=limit + 1)
        statement = statement.where(Job.id.in_(of_person))
    else:
        listed = newest_jobs(actor, states=states, kinds=kinds, before=before, limit=limit + 1)
        statement = statement.where(Job.id.in_(listed))
    return page(session, statement, Job, _summary, cursor=cursor, limit=limit)


def get_job(session: Session, actor: Actor, job_id: UUID) -> JobView:
    job = get(session, actor, Job, job_id)
    attempts = (
        select(Attempt, Worker.name)
        .outerjoin(Worker, Worker.id == Attempt.worker_id)
        .where(Attempt.job_id == job_id)
        .order_by(Attempt.fence)
    )
    return views.job_view(
        job,
        *_names(session, actor, job),
        session.scalar(select(Worker.name).where(Worker.id == job.worker_id)) if job.worker_id else None,
        [views.attempt_view(*row) for row in session.execute(attempts)] if job.fence else [],
        standing_view(job, *_standing(session, job)),
        **_linked(session, actor, job),
    )


def new_job(actor: Actor, job: Job) -> JobView:
    """As `get_job`, of one that this transaction has made and that waits for no other: nothing else is known of it."""
    nothing: dict[str, Any] = {"depends_on": [], "dependents": [], "retries": [], "retry_of": None}
    return views.job_view(job, actor.project_name, actor.user_name, None, [], None, batch=None, **nothing)


def _names(session: Session, actor: Actor, job: Job) -> tuple[str, str | None]:
    """The job's project's, and its submitter's where the actor may know it."""
    if job.project_id == actor.project_id and job.user_id in (None, actor.user_id):
        return actor.project_name, actor.user_name if job.user_id else None
    found = select(Project.name, User.name).outerjoin(User, and_(User.id == job.user_id, may_reach(actor)))
    project, user = session.execute(found.where(Project.id == job.project_id)).one()
    return project, user


def _linked(session: Session, actor: Actor, job: Job) -> dict[str, Any]:
    """The job's batch, and the jobs that it has to do with, as far as the actor may see them."""
    wanted = {
        "depends_on": Job.id.in_(select(Dependency.on_id).where(Dependency.job_id == job.id)),
        "dependents": Job.id.in_(select(Dependency.job_id).where(Dependency.on_id == job.id)),
        "retries": Job.retry_of == job.id,
    } | ({"retry_of": Job.id == job.retry_of} if job.retry_of else {})
    linked: dict[str, list[LinkedJob]] = {sort: [] for sort in wanted}
    each = [
        readable(actor, Job)
        .with_only_columns(literal(sort).label("sort"), Job.id, Job.kind, Job.name, Job.state)
        .where(of_sort)
        .order_by(Job.id)
        .limit(LINKED)
        .subquery()
        .select()
        for sort, of_sort in wanted.items()
    ]
    for sort, *columns in session.execute(union_all(*each)):
        fields = dict(zip(("id", "kind", "name", "state"), columns, strict=True))
        linked[sort].append(LinkedJob.model_validate(fields))
    own = job.project_id == actor.project_id
    batch = session.get(Batch, job.batch_id) if own and job.batch_id else None
    return {**linked, "batch": batch, "retry_of": next(iter(linked.get("retry_of", [])), None)}


def _standing(session: Session, job: Job) -> tuple[Standing | None, datetime | None]:
    if job.state != JobState.QUEUED.value:
        return None, None
    looked = select(Standing, Queue.at).select_from(Queue).outerjoin(Standing, Standing.job_id == job.id)
    found = session.execute(looked.where(Queue.pool == job.pool).execution_options(populate_existing=True)).first()
    return (found[0], found[1]) if found is not None else (None, None)


def job_of_idempotency_key(session: Session, actor: Actor, idempotency_key: str) -> Job | None:
    return session.scalar(owned(actor, Job).where(Job.idempotency_key == idempotency_key))


def list_models(session: Session, actor: Actor, **options: Any) -> Page[ModelView]:
    return _list(session, actor, Model, views.model_view, **options)


def list_datasets(session: Session, actor: Actor, **options: Any) -> Page[DatasetView]:
    return _list(session, actor, Dataset, views.dataset_view, **options)


def list_coders(session: Session, actor: Actor, *, model: UUID | None = None, **options: Any) -> Page[CoderView]:
    wanted = [Coder.model_id == model] if model else []
    return _list(session, actor, Coder, views.coder_view, *wanted, **options)


def list_graphs(session: Session, actor: Actor, **options: Any) -> Page[GraphView]:
    return _list(session, actor, Graph, views.graph_view, **options)


def get_model(session: Session, actor: Actor, id: UUID) -> ModelView:
    return _get(session, actor, Model, views.model_view, id)


def get_dataset(session: Session, actor: Actor, id: UUID) -> DatasetView:
    return _get(session, actor, Dataset, views.dataset_view, id)


def get_coder(session: Session, actor: Actor, id: UUID) -> CoderView:
    return _get(session, actor, Coder, views.coder_view, id)


def get_graph(session: Session, actor: Actor, id: UUID) -> GraphDetail:
    view = _get(session, actor, Graph, views.graph_view, id)
    made_of_it = (
        job_summaries(actor)
        .where(Job.inputs["graph"].astext == str(id), Job.state == JobState.SUCCEEDED)
        .order_by(Job.id.desc())
        .limit(ANALYSES)
    )
    analyses = [_summary(row) for row in session.execute(made_of_it)]
    return GraphDetail(**dict(view), analyses=analyses)


def artifacts_of(session: Session, actor: Actor, job_id: UUID) -> Sequence[Artifact]:
    """Published files of the job, by name."""
    get(session, actor, Job, job_id)
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def file_of(session: Session, record: Model | Dataset | Coder | Graph, ending: str) -> Artifact | None:
    """The record's file whose name ends so, such as `graph.json`."""
    names = [name for name in record.files if name == ending or name.endswith("/" + ending)]
    of_record = (
        select(Artifact)
        .where(Artifact.project_id == record.project_id, Artifact.job_id == record.job_id, Artifact.name.in_(names))
        .order_by(func.length(Artifact.name), Artifact.name)
        .limit(1)
    )
    return once(session, (record.job_id, *names), lambda: session.scalar(of_record))


def events_after(session: Session, actor: Actor, job_id: UUID, after: int) -> tuple[list[EventView], bool]:
    """At most `EVENTS_AT_ONCE` events with `seq > after`, in order, and whether there can be no more behind them.

    Raises `NotFound`. An event's `seq` is taken under the job's row lock, so none appears behind one that was read.
    """
    job = get(session, actor, Job, job_id)
    final, last_seq = JobState(job.state).terminal, job.last_seq
    events = session.scalars(
        select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq).limit(EVENTS_AT_ONCE)
    )
    found = [views.event_view(event) for event in events]
    reached = found[-1].seq if found else after
    return found, final and reached >= last_seq


def log_before(session: Session, actor: Actor, job_id: UUID, before: int | None, limit: int) -> list[EventView]:
    """The last `limit` events with `seq < before` that a log tells of, in order; fewer where there are no more.

    Raises `NotFound`. They are found from the end, by the key of the table: how many metrics and moments of progress
    lie between them is what it costs.
    """
    get(session, actor, Job, job_id)
    events = select(Event).where(Event.job_id == job_id, Event.type.in_(LOGGED))
    if before is not None:
        events = events.where(Event.seq < before)
    found = session.scalars(events.order_by(Event.seq.desc()).limit(limit)).all()
    return [views.event_view(event) for event in reversed(found)]


@dataclass(frozen=True)
class Told:
    """What a reader of changes knows."""

    before: str | None = None
    """All transactions before this one had ended at the last look."""
    changed: Mapping[UUID, datetime] = field(default_factory=dict)
    """When the jobs that it found had changed."""


def jobs_changed(session: Session, actor: Actor, window_s: float, told: Told) -> tuple[Told, list[JobSummary] | None]:
    """Visible jobs changed in the last seconds that were not told, oldest change first; None where they are more than
    `CHANGES_AT_ONCE`.

    `updated_at` is when a transaction began, so changes appear out of order: ask for an overlap. Of that, only what
    transactions wrote that might not have ended at the last look is read again.
    """
    before = session.scalars(_ALL_ENDED).one()
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, window_s)
    lately = select(Job.id, Job.updated_at).where(may_read(actor, Job), Job.updated_at > since)
    if told.before is not None:
        lately = lately.where(_WRITTEN_SINCE.bindparams(before=told.before))
    changed: dict[UUID, datetime] = dict(session.execute(lately).all())
    fresh = [id for id, at in changed.items() if told.changed.get(id) != at]
    if len(fresh) > CHANGES_AT_ONCE:
        return Told(before, changed), None
    found = job_summaries(actor).where(Job.id.in_(fresh)).order_by(Job.updated_at)
    rows = session.execute(found).all() if fresh else []
    # Some may have changed again since they were looked for.
    return Told(before, changed | {job.id: job.updated_at for job, *_ in rows}), [_summary(row) for row in rows]


_ALL_ENDED = select(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), TEXT))
_WRITTEN_SINCE = text("age(jobs.xmin) <= age(cast(cast(:before as xid8) as xid))")


def list_workers(session: Session, actor: Actor) -> list[WorkerView]:
    """Workers heard of lately, each with its job where the actor may see that job."""
    held = (
        select(Job.worker_id, Job.id)
        .where(may_read(actor, Job), Job.state.in_((JobState.DISPATCHED, JobState.RUNNING)))
        .subquery()
    )
    age = extract("epoch", func.clock_timestamp() - Worker.beat_at)
    rows = session.execute(
        select(Worker, age, held.c.id)
        .outerjoin(held, held.c.worker_id == Worker.id)
        .where(Worker.beat_at > func.now() - text(f"interval '{WORKER_MEMORY}'"))
        .order_by(Worker.name, held.c.id)
        .ext(distinct_on(Worker.name))
    )
    return [
        WorkerView.model_validate(
            {
                "name": worker.name,
                "pool": worker.pool,
                "device": worker.device,
                "memory_bytes": worker.memory_bytes,
                "cpus": worker.cpus,
                "draining": worker.draining,
                "beat_age_s": max(0.0, float(beat_age)),
                "job_id": job_id,
            }
        )
        for worker, beat_age, job_id in rows
    ]


def job_summaries(actor: Actor) -> Select[Any]:
    """Visible jobs with whose they are and where they stand, without the columns that can be long."""
    long = (Job.spec, Job.inputs, Job.requests, Job.result, Job.checkpoint)
    return (
        readable(actor, Job)
        .join(Project, Project.id == Job.project_id)
        .outerjoin(Standing, and_(Standing.job_id == Job.id, Job.state == JobState.QUEUED.value))
        .outerjoin(Queue, Queue.pool == Job.pool)
        .outerjoin(Batch, and_(Batch.id == Job.batch_id, Batch.project_id == actor.project_id))
        .outerjoin(User, and_(User.id == Job.user_id, may_reach(actor)))
        .add_columns(Project.name, User.name, Standing, Queue.at, Batch)
        .options(*(defer(column, raiseload=True) for column in long))
    )


def _summary(row: Any) -> JobSummary:
    job, project, user, standing, looked_at, batch = row
    return views.job_summary(job, project, user, standing_view(job, standing, looked_at), batch)


def _list(
    session: Session,
    actor: Actor,
    table: Any,
    view: Callable[[Any, str], V],
    *wanted: Any,
    name: str | None = None,
    job: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[V]:
    statement = readable(actor, table).join(Project, Project.id == table.project_id).add_columns(Project.name)
    if name is not None:
        statement = statement.where(table.name == name)
    if job is not None:
        statement = statement.where(table.job_id == job)
    return page(session, statement.where(*wanted), table, lambda row: view(*row), cursor=cursor, limit=limit)


def _get(session: Session, actor: Actor, table: Any, view: Callable[[Any, str], V], id: UUID) -> V:
    record = get(session, actor, table, id)
    return view(record, _project_name(session, record.project_id))


def _project_name(session: Session, project_id: UUID) -> str:
    return session.scalars(select(Project.name).where(Project.id == project_id)).one()

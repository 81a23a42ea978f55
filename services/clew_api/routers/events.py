"""What happens to a job, as it happens."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from clew_api.auth import ActorDep, CallerDep, requires
from clew_api.lab import Lab, LabDep
from clew_api.params import MAX_SEQ, LastEventId, Seq
from clew_api.problems import declared
from clew_api.streams import EventStream, changes, declared_stream, job_events
from clew_lab.catalogue import queries, scope
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Job
from clew_spec.api import EventView
from clew_spec.people import Permission

MAX_LINES = 1000

router = APIRouter(tags=["events"], dependencies=[requires(Permission.JOB_READ)], responses=declared(403))


@router.get(
    "/jobs/{job_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        **declared_stream("`id: <seq>`, `event: <type>`, data = EventView; at the very end one `event: end`"),
        **declared(401, 404, 422, 503),
    },
)
def stream_job_events(
    lab: LabDep, caller: CallerDep, job_id: UUID, after: Seq = None, last_event_id: LastEventId = None
) -> EventStream:
    """Server-sent events of one job, resumed from `Last-Event-ID` (or `after`); ends when the job has."""
    _must_see(lab, caller.actor, job_id)
    return EventStream(job_events(lab, caller, job_id, _start(after, last_event_id)))


@router.get("/jobs/{job_id}/log", responses=declared(401, 404, 422, 503))
def get_log(
    lab: LabDep,
    actor: ActorDep,
    job_id: UUID,
    before: Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="only events before this one")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 200,
) -> list[EventView]:
    """The last of a job's events but metrics and progress, in order. Fewer than `limit`: there are none before them."""
    with lab.transaction() as session:
        return queries.log_before(session, actor, job_id, before, limit)


@router.get(
    "/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        **declared_stream(
            "`event: job`, data = JobSummary; `event: refresh`; `id: <seq>`, `event: event`, data = EventView"
        ),
        **declared(401, 404, 422, 503),
    },
)
def stream_changes(
    lab: LabDep,
    caller: CallerDep,
    job: UUID | None = None,
    after: Seq = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Server-sent events for one browser tab: changes of all visible jobs, and the events of the one that is named.

    Changes are not replayed: fetch the lists again whenever the stream opens. Where more jobs changed at once than are
    told one by one, `refresh` stands for all of them: fetch the lists then, too.
    """
    if job is not None:
        _must_see(lab, caller.actor, job)
    return EventStream(changes(lab, caller, job, _start(after, last_event_id)))


def _must_see(lab: Lab, actor: Actor, job_id: UUID) -> None:
    """A 404 must come before the stream begins."""
    with lab.transaction() as session:
        scope.get(session, actor, Job, job_id)


def _start(after: int | None, last_event_id: int | None) -> int:
    """What a reconnecting browser saw last counts more than the address it began with."""
    return last_event_id if last_event_id is not None else after or 0

"""Server-sent events, read from Postgres. A stream that waits holds no connection to the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import structlog
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from clew_api.auth import Caller
from clew_api.bell import Ring
from clew_api.lab import Lab
from clew_lab.catalogue import identity, queries
from clew_lab.catalogue.scope import Actor
from clew_spec.api import EventView, JobSummary
from clew_spec.errors import NotFound
from clew_spec.people import Permission

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")

POLL_S = 1.0
"""A stream looks at least this often, whether it was rung or not."""
PAUSE_S = 0.05
"""...and at most this often."""
HEARTBEAT_S = 15.0
CHECK_S = 15.0
"""How long a stream may outlive its key, its session or the right to read, however much it has to say."""
CHANGES_WINDOW_S = 15.0
"""How far before its last look a stream of changes looks; longer than any transaction that changes a job."""

HEARTBEAT = b": still here\n\n"


class EventStream(StreamingResponse):
    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def declared_stream(description: str) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that streams."""
    return {200: {"description": description, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def frame(event: str, data: BaseModel | str, id: int | None = None) -> bytes:
    text = data if isinstance(data, str) else data.model_dump_json()
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {text}\n\n".encode()


def event_frame(event: EventView, name: str) -> bytes:
    return frame(name, event, event.seq)


class Rhythm:
    """When a stream looks again: when it was rung or a moment has passed; where all is quiet, a sign of life."""

    def __init__(self, lab: Lab, caller: Caller, ring: Ring) -> None:
        self._lab = lab
        self._caller = caller
        self._ring = ring
        self._said_at = self._checked_at = time.monotonic()

    def said(self, *, more: bool = False) -> None:
        """Something was sent: no heartbeat is due for a while. With `more` to send, the next wait is short."""
        self._said_at = time.monotonic()
        if more:
            self._ring.ring()

    async def wait(self) -> bytes | None:
        """What to send before looking again, if anything; None where the server, the key or the session has ended."""
        await self._ring.wait(POLL_S)
        await asyncio.sleep(PAUSE_S)
        if self._lab.bell.closed:
            return None
        if time.monotonic() - self._checked_at >= CHECK_S:
            self._checked_at = time.monotonic()
            caller = self._caller
            if await look(self._lab, identity.still, caller.credential, caller.actor, Permission.JOB_READ) is False:
                return None
        if time.monotonic() - self._said_at < HEARTBEAT_S:
            return b""
        self.said()
        return HEARTBEAT


async def look(lab: Lab, query: Callable[Concatenate[Session, P], T], *args: P.args, **options: P.kwargs) -> T | None:
    """A short transaction in a thread; None where the database does not answer, so that streams outlive its restart."""

    def run() -> T:
        with lab.transaction() as session:
            return query(session, *args, **options)

    try:
        return await run_in_threadpool(run)
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        log.warning("stream.database_lost", error=type(error).__name__)
        return None


async def job_events(lab: Lab, caller: Caller, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Every event of the job after `after`, once and in order; then one `end`, when there can be no more."""
    with lab.bell.place(job_id) as ring:
        rhythm = Rhythm(lab, caller, ring)
        while True:
            try:
                found = await look(lab, queries.events_after, caller.actor, job_id, after)
            except NotFound:  # no longer shown to us
                return
            events, ended = found or ([], False)
            for event in events:
                yield event_frame(event, event.type)
                after = event.seq
            if ended:
                yield frame("end", "{}")
                return
            if events:
                rhythm.said(more=len(events) == queries.EVENTS_AT_ONCE)
            if (sign := await rhythm.wait()) is None:
                return
            yield sign


async def changes(lab: Lab, caller: Caller, job_id: UUID | None, after: int) -> AsyncIterator[bytes]:
    """`job` whenever a visible job changed, `refresh` where too many did at once, and `event` for the one job that is
    named."""
    told = queries.Told()
    watched = job_id
    looked_at = time.monotonic()
    with lab.bell.place(None) as ring:
        rhythm = Rhythm(lab, caller, ring)
        yield b": open\n\n"
        while True:
            asked_at = time.monotonic()
            window_s = CHANGES_WINDOW_S + asked_at - looked_at  # longer after an outage, or where the reader is slow
            found = await look(lab, _changes_after, caller.actor, watched, after, window_s, told)
            if found is not None:
                looked_at = asked_at
                told, fresh, events, ended = found
                watched = None if ended else watched
                for event in events:
                    yield event_frame(event, "event")
                    after = event.seq
                if fresh is None:
                    yield frame("refresh", "{}")
                for job in fresh or ():
                    yield frame("job", job)
                if events or fresh != []:
                    rhythm.said(more=len(events) == queries.EVENTS_AT_ONCE)
            if (sign := await rhythm.wait()) is None:
                return
            yield sign


def _changes_after(
    session: Session, actor: Actor, job_id: UUID | None, after: int, window_s: float, told: queries.Told
) -> tuple[queries.Told, list[JobSummary] | None, list[EventView], bool]:
    """Both halves of `changes`, at one moment; and whether the one job has no more to tell."""
    changed = queries.jobs_changed(session, actor, window_s, told)
    if job_id is None:
        return *changed, [], True
    try:
        return *changed, *queries.events_after(session, actor, job_id, after)
    except NotFound:  # no longer shown to us
        return *changed, [], True

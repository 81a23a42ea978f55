"""A job's events as they happen, over any number of connections, each exactly once and in order."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from uuid import UUID

import httpx2
from pydantic import ValidationError

from clew_client.errors import UnexpectedAnswer
from clew_client.transport import PASSING, Transport, problem_of, unreachable
from clew_spec.api import EventView
from clew_spec.errors import ClewError, Unavailable

SILENCE_S = 45.0
"""The server sends a heartbeat every 15 s; after three that did not come the connection is taken for dead."""

TRIES = 40
"""Connections in a row that brought nothing; with the pauses between them, at least 3 minutes."""


def job_events(transport: Transport, job_id: UUID, after: int | None = None) -> Iterator[EventView]:
    """Events with `seq > after`, until the job is finished and all of them were sent.

    A connection that breaks is opened again from the last event received. Raises what the API reports, and
    Unavailable after `TRIES` connections in a row without an event.
    """
    seen = after
    fruitless = 0
    while True:
        failure: ClewError = Unavailable(f"the event stream of job {job_id} ends before the job does")
        try:
            with closing(_connection(transport, job_id, seen)) as events:
                for event in events:
                    if event is None:
                        return
                    fruitless = 0
                    if seen is None or event.seq > seen:
                        seen = event.seq
                        yield event
        except httpx2.TransportError as error:
            failure = unreachable(transport.url, error)
        except _Passing as error:
            failure = error.problem
        fruitless += 1
        if fruitless >= TRIES:
            raise failure
        retry = transport.retry
        time.sleep(min(retry.longest_s, retry.first_s * 2.0 ** min(fruitless - 1, 10)))


class _Passing(Exception):
    def __init__(self, problem: ClewError) -> None:
        self.problem = problem


def _connection(transport: Transport, job_id: UUID, after: int | None) -> Generator[EventView | None]:
    """The events of one connection; None for the server's own `end`."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    timeout = httpx2.Timeout(10.0, read=SILENCE_S)
    with transport.http.sse(f"jobs/{job_id}/events", headers=headers, timeout=timeout) as source:
        response = source.response
        if not response.is_success:
            response.read()
            problem = problem_of(response)
            raise _Passing(problem) if response.status_code in PASSING else problem
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise UnexpectedAnswer(f"{response.request.url} is no event stream", hint="is the URL right?")
        for message in source:
            if message.event == "end":
                yield None
                return
            if not message.data:
                continue
            try:
                event = EventView.model_validate_json(message.data)
            except ValidationError as error:
                raise UnexpectedAnswer(
                    f"an event of job {job_id} was not understood: {error.errors()[0]['msg']}",
                    hint="client and server may be of different versions",
                ) from error
            yield event

"""A small server that speaks the API's contract, and misbehaves on demand: for faults a healthy server never shows."""

import asyncio
import hashlib
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew_spec.api import (
    ArtifactView,
    ComponentHealth,
    EstimateView,
    EventView,
    Health,
    JobSummary,
    JobView,
    Page,
    SessionView,
)
from clew_spec.errors import ClewError, Conflict, NotAuthenticated, NotFound, Problem
from clew_spec.estimates import Estimate
from clew_spec.jobs import POOL_OF, JobRequest, JobState
from clew_spec.people import Role

KEY = "clew_0123456789abcdef"


NO_ESTIMATE = EstimateView(estimate=Estimate(unknown={"memory": "unseen"}), workers=[], fits=True, reason=None)


@dataclass
class Broken:
    """How one SSE connection ends: after `after` bytes, torn or closed as if all were well."""

    after: int
    torn: bool


@dataclass
class Contract:
    """What the server knows, and what it shall do wrong."""

    url: str = ""
    jobs: dict[UUID, JobView] = field(default_factory=dict)
    events: dict[UUID, list[EventView]] = field(default_factory=dict)
    keys: dict[str, UUID] = field(default_factory=dict)
    requests: list[tuple[str, str, JobRequest | None]] = field(default_factory=list)
    answers: deque[Response] = field(default_factory=deque)
    """Given instead of the true answers, first come first served."""
    lose: int = 0
    """Do as asked, but cut the connection in the middle of so many answers."""
    cuts: deque[Broken] = field(default_factory=deque)
    repeat: int = 0
    """Send so many events again after each reconnection."""
    objects: dict[str, bytes] = field(default_factory=dict)
    streams: int = 0
    hold: bool = False
    """Keep event streams open after the last event."""
    healthy: bool = True
    on_submit: Callable[[JobView], None] | None = None
    estimate: EstimateView = field(default_factory=lambda: NO_ESTIMATE)

    def reset(self) -> None:
        fresh = Contract(url=self.url)
        self.__dict__.update(fresh.__dict__)

    def add(self, request: JobRequest, job_id: UUID | None = None) -> JobView:
        view = JobView(
            id=job_id or uuid4(),
            project="lab",
            user="admin",
            kind=request.spec.kind,
            name=getattr(request.spec, "name", "evaluate"),
            state=JobState.QUEUED,
            priority=request.priority,
            visibility=request.visibility,
            cancel_requested=False,
            batch=None,
            progress=None,
            standing=None,
            error=None,
            created_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            spec=request.spec,
            requests=request.requests,
            pool=POOL_OF[request.spec.kind],
            fence=0,
            worker=None,
            max_retries=request.max_retries,
            failure_count=0,
            lost_count=0,
            preempt_count=0,
            result=None,
            attempts=[],
            parents=[],
            inputs={},
            depends_on=[],
            dependents=[],
            retry_of=None,
            retries=[],
            last_seq=0,
        )
        self.jobs[view.id] = view
        self.events[view.id] = []
        return view

    def happen(self, job: JobView, type_: str, **data: Any) -> None:
        seq = job.last_seq = job.last_seq + 1
        event = EventView(job_id=job.id, seq=seq, fence=1, at=datetime.now(UTC), type=type_, data=data)
        self.events[job.id].append(event)

    def end(self, job: JobView, state: JobState, error: Problem | None = None) -> None:
        job.state, job.error = state, error
        job.started_at = job.finished_at = datetime.now(UTC)
        self.happen(job, "state", state=state.value)

    def artifact(self, job: JobView, name: str, content: bytes, **other: Any) -> ArtifactView:
        self.objects[name] = content
        view = {
            "id": uuid4(),
            "job_id": job.id,
            "name": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "media_type": "application/octet-stream",
            "created_at": datetime.now(UTC),
            "url": f"{self.url}/objects/{name}?signature=secret",
        }
        return ArtifactView.model_validate(view | other)

    def seen(self, method: str, path: str) -> int:
        return sum(1 for request in self.requests if request[:2] == (method, f"/api/v1{path}"))


class _Faults:
    """Around the application: canned answers, and answers that get lost on the way."""

    def __init__(self, app: ASGIApp, contract: Contract) -> None:
        self.app, self.contract = app, contract

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.contract.requests.append((scope["method"], scope["path"], None))
        if self.contract.answers:
            await self.contract.answers.popleft()(scope, receive, send)
        elif self.contract.lose and scope["method"] == "POST":
            self.contract.lose -= 1
            await self.app(scope, receive, _swallow)
            length = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 202, "headers": length})
            await send({"type": "http.response.body", "body": b'{"id":', "more_body": True})
            raise ConnectionAbortedError
        else:
            await self.app(scope, receive, send)


async def _swallow(_: Message) -> None:
    pass


def application(contract: Contract) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(ClewError)
    async def _problem(_: Request, error: ClewError) -> Response:
        return problem_answer(error.problem())

    @app.middleware("http")
    async def _auth(request: Request, call_next: Any) -> Response:
        path = request.url.path
        if path.startswith("/api/v1/") and path != "/api/v1/health":
            if request.headers.get("Authorization") != f"Bearer {KEY}":
                return problem_answer(NotAuthenticated("no such key", hint="ask for one").problem())
        elif "Authorization" in request.headers and path.startswith("/objects"):
            return PlainTextResponse("only one auth mechanism allowed", 400)
        answer: Response = await call_next(request)
        return answer

    def job_of(job_id: UUID) -> JobView:
        if job_id not in contract.jobs:
            raise NotFound(f"there is no job {job_id}")
        return contract.jobs[job_id]

    @app.post("/api/v1/jobs", status_code=202)
    async def submit(request: Request, idempotency_key: str = Header()) -> JobView:
        asked = JobRequest.model_validate_json(await request.body())
        contract.requests[-1] = ("POST", "/api/v1/jobs", asked)
        if idempotency_key not in contract.keys:
            view = contract.add(asked)
            contract.keys[idempotency_key] = view.id
            if contract.on_submit:
                contract.on_submit(view)
        return contract.jobs[contract.keys[idempotency_key]]

    @app.post("/api/v1/estimates")
    async def estimates(request: Request) -> EstimateView:
        JobRequest.model_validate_json(await request.body())
        return contract.estimate

    @app.get("/api/v1/jobs")
    async def jobs(request: Request, limit: int = 100, cursor: int = 0) -> Page[JobSummary]:
        states, kinds = request.query_params.getlist("state"), request.query_params.getlist("kind")
        found = [
            job
            for job in reversed(contract.jobs.values())
            if (not states or job.state in states) and (not kinds or job.kind in kinds)
        ]
        items = [JobSummary.model_validate({n: getattr(j, n) for n in JobSummary.model_fields}) for j in found]
        following = str(cursor + limit) if cursor + limit < len(items) else None
        return Page(items=items[cursor : cursor + limit], next_cursor=following)

    @app.get("/api/v1/jobs/{job_id}")
    async def show(job_id: UUID) -> JobView:
        return job_of(job_id)

    @app.post("/api/v1/jobs/{job_id}/cancel", status_code=202)
    async def cancel(job_id: UUID) -> JobView:
        job = job_of(job_id)
        if job.state.terminal:
            raise Conflict(f"the job is {job.state}", hint="nothing is left to cancel")
        job.cancel_requested = True
        contract.end(job, JobState.CANCELLED)
        return job

    @app.get("/api/v1/jobs/{job_id}/metrics")
    async def metrics(job_id: UUID, max_points: int = Query(default=500, ge=5)) -> list[dict[str, Any]]:
        job_of(job_id)
        return [{"name": "L03/fvu", "steps": [0, 5], "values": [1.0, 0.25]}]

    @app.get("/api/v1/jobs/{job_id}/events")
    async def events(job_id: UUID, last_event_id: int = Header(default=0)) -> Response:
        job = job_of(job_id)
        contract.streams += 1
        broken = contract.cuts.popleft() if contract.cuts else None
        # The whole stream is made before it is cut, so that a cut can fall on any byte of it.
        after = max(0, last_event_id - contract.repeat) if last_event_id else 0
        due = [event for event in contract.events[job.id] if event.seq > after]
        body = ": heartbeat\n\n" + "".join(
            f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n" for event in due
        )
        if job.state.terminal:
            body += "event: end\ndata: {}\n\n"
        return StreamingResponse(_stream(contract, body.encode(), broken), media_type="text/event-stream")

    @app.get("/api/v1/session")
    async def session() -> SessionView:
        return SessionView(
            project="lab",
            project_id=None,
            user="admin",
            display_name="admin",
            user_id=None,
            key_id=None,
            key_name="admin",
            role=Role.ADMIN,
            admin=False,
            permissions=[],
            projects=[],
            expires_at=None,
        )

    @app.get("/api/v1/workers")
    async def workers() -> list[Any]:
        return []

    @app.get("/api/v1/health")
    async def health() -> Response:
        parts = {"postgres": ComponentHealth(ok=contract.healthy, detail=None if contract.healthy else "refused")}
        view = Health(ok=contract.healthy, version="0.1.0", components=parts)
        return JSONResponse(view.model_dump(mode="json"), 200 if contract.healthy else 503)

    @app.get("/objects/{name:path}")
    async def fetch(name: str) -> Response:
        return Response(contract.objects[name]) if name in contract.objects else Response(status_code=404)

    return app


async def _stream(contract: Contract, body: bytes, broken: Broken | None) -> AsyncIterator[bytes]:
    if broken is not None and broken.after < len(body):
        yield body[: broken.after]
        if broken.torn:
            raise ConnectionAbortedError
        return
    yield body
    while contract.hold:
        await asyncio.sleep(0.01)


def problem_answer(problem: Problem, **headers: str) -> Response:
    return JSONResponse(
        problem.model_dump(mode="json"), problem.status, headers=headers, media_type="application/problem+json"
    )


class Serving:
    """`contract` behind a real socket, in a thread."""

    def __init__(self, contract: Contract) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        contract.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = _Faults(application(contract), contract)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

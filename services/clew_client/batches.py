"""Sweeps and pipelines, as Python sees them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from clew_client.errors import JobFailed
from clew_client.requests import pipeline_request, sweep_request
from clew_client.transport import Transport, parse
from clew_spec.api import JobSummary, Page
from clew_spec.base import Spec
from clew_spec.batch_views import BatchView, PipelineEstimate, SweepEstimate
from clew_spec.batches import BatchKind, PipelineRequest, SweepRequest
from clew_spec.jobs import JobState

if TYPE_CHECKING:
    from clew_client.lab import Job, Lab


POLL_S = 2.0
"""How often a batch that is waited for is looked at."""
SHOWN = 100
"""Running jobs that are told at a look, and failed ones in all."""

OnLook = Callable[[BatchView, list[JobSummary], list[JobSummary]], None]
"""Given the batch as it is, those of its jobs that run, and those whose failure was not told yet."""


class Batch:
    """A sweep or a pipeline, and the lab it runs in; `view` is what was seen of it last."""

    def __init__(self, lab: "Lab", view: BatchView) -> None:
        self._lab = lab
        self.view = view

    def __repr__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in self.view.states.items())
        return f"Batch({self.view.kind} {self.view.name!r}, {states}, {self.id})"

    @property
    def id(self) -> UUID:
        return self.view.id

    def refresh(self) -> Self:
        self.view = self._lab.batch(self.id).view
        return self

    def jobs(self, limit: int | None = None) -> Iterator[JobSummary]:
        """Newest first; what tries another again beside it."""
        return self._lab.jobs(batch=self.id, limit=limit)

    def job(self, step: str) -> "Job":
        """The newest job of that name in the pipeline, or with those changes of the sweep. Raises KeyError."""
        for job in self.jobs():
            if job.batch and job.batch.step == step:
                return self._lab.job(job.id)
        raise KeyError(step)

    def wait(self, on_look: OnLook | None = None, *, check: bool = False) -> Self:
        """Return when all jobs have ended, looked at together every `POLL_S`; `on_look` is told each time.

        Raises JobFailed, for the first that did not succeed, if `check`.
        """
        told: set[UUID] = set()
        while True:
            self.refresh()
            if on_look:
                running, failed = self._newest(JobState.RUNNING), self._newest(JobState.FAILED, told)
                on_look(self.view, running, failed)
                told |= {job.id for job in failed}
            if all(state.terminal for state in self.view.states):
                break
            time.sleep(POLL_S)
        if check and set(self.view.states) != {JobState.SUCCEEDED}:
            last = {job.batch.step: job for job in reversed(list(self.jobs())) if job.batch}
            for job in last.values():
                if job.state is not JobState.SUCCEEDED:
                    raise JobFailed(self._lab.job(job.id).view)
        return self

    def _newest(self, state: JobState, told: Set[UUID] = frozenset()) -> list[JobSummary]:
        """Of the batch's jobs in that state; nothing is asked where there are none but those that were told."""
        if len(told) >= min(self.view.states.get(state, 0), SHOWN):
            return []
        found = self._lab.jobs(batch=self.id, state=[state], limit=SHOWN)
        return [job for job in found if job.id not in told]

    def cancel(self) -> Self:
        """Ask all jobs that have not ended to stop."""
        self.view = self._lab.batches.cancel(self.id)
        return self

    def retry(self) -> Self:
        """Try again what failed or was cancelled. Raises Conflict where there is nothing of it."""
        self.view = self._lab.batches.retry(self.id)
        return self


class Batches:
    """What the API knows of sweeps and pipelines."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self, kind: BatchKind | None = None, limit: int | None = None) -> Iterator[BatchView]:
        """Newest first; `limit` of them, or all."""
        return self._transport.pages(TypeAdapter(Page[BatchView]), "batches", {"kind": kind}, limit)

    def get(self, batch_id: UUID) -> BatchView:
        view: BatchView = self._transport.get(BatchView, f"batches/{batch_id}")
        return view

    def submit(self, request: SweepRequest | PipelineRequest, idempotency_key: str | None = None) -> BatchView:
        """With the same `idempotency_key` the same batch comes back."""
        response = self._transport.request(
            "POST",
            "sweeps" if isinstance(request, SweepRequest) else "pipelines",
            content=request.model_dump_json(exclude_unset=True),
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
            idempotent=True,
        )
        view: BatchView = parse(BatchView, response)
        return view

    def estimate_sweep(self, request: SweepRequest) -> SweepEstimate:
        found: SweepEstimate = self._estimate(SweepEstimate, "sweep", request)
        return found

    def estimate_pipeline(self, request: PipelineRequest) -> PipelineEstimate:
        found: PipelineEstimate = self._estimate(PipelineEstimate, "pipeline", request)
        return found

    def cancel(self, batch_id: UUID) -> BatchView:
        return self._post(f"batches/{batch_id}/cancel")

    def retry(self, batch_id: UUID) -> BatchView:
        return self._post(f"batches/{batch_id}/retry")

    def _post(self, path: str) -> BatchView:
        view: BatchView = parse(BatchView, self._transport.request("POST", path))
        return view

    def _estimate(self, answer: type[Any], kind: str, request: SweepRequest | PipelineRequest) -> Any:
        content = request.model_dump_json(exclude_unset=True)
        return parse(answer, self._transport.request("POST", f"estimates/{kind}", content=content, idempotent=True))


def sweep_of(
    spec: Spec | Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    points: Sequence[Mapping[str, Any]],
    name: str | None,
    **options: Any,
) -> SweepRequest:
    """As `Lab.sweep` takes it. Raises InvalidSpec."""
    body: dict[str, Any] = spec.model_dump(exclude_unset=True) if isinstance(spec, Spec) else dict(spec)
    if isinstance(spec, Spec) and "spec" not in body:
        body["kind"] = getattr(spec, "kind", None)
    if "kind" in body:
        body = {"spec": body}
    body |= {"grid": {path: list(values) for path, values in grid.items()}, "points": [dict(each) for each in points]}
    body["name"] = name or body["spec"].get("name") or body["spec"]["kind"]
    return sweep_request(body, **options)


def pipeline_of(jobs: Mapping[str, Spec | Mapping[str, Any]], name: str, **options: Any) -> PipelineRequest:
    """As `Lab.pipeline` takes it. Raises InvalidSpec."""
    given = {each: asked.model_dump() if isinstance(asked, Spec) else asked for each, asked in jobs.items()}
    return pipeline_request({"name": name, "jobs": given}, **options)

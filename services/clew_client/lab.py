"""The lab, as Python sees it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
from pydantic import TypeAdapter

from clew_client.batches import Batch, Batches, pipeline_of, sweep_of
from clew_client.circuits import Circuits
from clew_client.coders import LabCoder
from clew_client.credentials import find_credentials
from clew_client.curves import WHOLE_CURVE, Curves
from clew_client.documents import DOCUMENTS, Document
from clew_client.download import OnBytes, download
from clew_client.errors import JobFailed
from clew_client.graphs import LabGraph
from clew_client.job import Job as Job
from clew_client.job import OnEvent
from clew_client.people import People
from clew_client.requests import job_request
from clew_client.secrets import Secrets
from clew_client.stream import job_events
from clew_client.transport import Item, Params, Retry, Transport, parse, problem_of
from clew_client.uploads import Uploads
from clew_spec.api import (
    ArtifactView,
    CoderView,
    DatasetView,
    EstimateView,
    EventView,
    GraphDetail,
    GraphView,
    Health,
    JobSummary,
    JobView,
    LabView,
    MetricSeries,
    ModelView,
    Page,
    SessionView,
    WorkerView,
)
from clew_spec.base import Spec
from clew_spec.batches import changed
from clew_spec.data_views import UploadDetail
from clew_spec.errors import InvalidSpec, NotFound
from clew_spec.graph import GraphDocument
from clew_spec.jobs import JobChange, JobKind, JobRequest, JobState, Requests, Visibility
from clew_spec.patching import PatchDocument

Priority = Literal["low", "normal", "high"]


class Lab(Circuits):
    """One lab, one key. Every method raises the `ClewError` that the API reports, Unavailable if it does not answer."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout_s: float = 30.0, retry: Retry | None = None
    ) -> None:
        """`url` and `key` default to $CLEW_URL and $CLEW_KEY, then to what `clew login` stored."""
        self._transport = Transport(find_credentials(url, key), timeout_s=timeout_s, retry=retry or Retry())
        self._objects = httpx2.Client(timeout=httpx2.Timeout(timeout_s, connect=10.0))
        self.uploads = Uploads(self._transport, self._objects)
        self.secrets = Secrets(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.http.close()
        self._objects.close()

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def people(self) -> People:
        """Who works in the lab: users, projects, members and keys."""
        return People(self._transport)

    @property
    def batches(self) -> Batches:
        """Sweeps and pipelines, as the API has them."""
        return Batches(self._transport)

    def upload(self, path: Path | str, name: str | None = None) -> UploadDetail:
        """Send a file or a folder; `ref` of the answer is what a job's `path` takes. As `Uploads.send`."""
        return self.uploads.send(Path(path), name)

    # Jobs

    def submit(
        self,
        spec: Spec | Mapping[str, Any],
        *,
        priority: Priority | None = None,
        max_retries: int | None = None,
        visibility: Visibility | None = None,
        requests: Requests | Mapping[str, Any] | None = None,
        reuse: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Ask for a job: `spec` is a job spec or a `JobRequest`, as an object or a mapping.

        The other fields of a request replace those it has. It is checked here first (InvalidSpec). With the same
        `idempotency_key` the same job comes back; without one, each call is a new job, and a request that is repeated
        because an answer was lost is still one job. An analysis that the project has made before comes back as it was,
        unless `reuse` is False.
        """
        request = job_request(
            spec, priority=priority, max_retries=max_retries, visibility=visibility, requests=requests, reuse=reuse
        )
        response = self._transport.request(
            "POST",
            "jobs",
            content=request.model_dump_json(),
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
            idempotent=True,
        )
        return Job(self, parse(JobView, response))

    def sweep(
        self,
        spec: Spec | Mapping[str, Any],
        grid: Mapping[str, Sequence[Any]] = {},
        points: Sequence[Mapping[str, Any]] = (),
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Batch:
        """Ask for a job in many ways, up to 10,000, all of them or none: every combination of the values of `grid`, by
        field (`"optimizer.lr": [1e-3, 1e-4]`), with every one of the changes in `points`.

        `options`: priority, max_retries, visibility, requests. Raises as `submit`.
        """
        return Batch(self, self.batches.submit(sweep_of(spec, grid, points, name, **options), idempotency_key))

    def pipeline(
        self,
        jobs: Mapping[str, Spec | Mapping[str, Any]],
        *,
        name: str = "pipeline",
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Batch:
        """Ask for jobs that refer to each other by `jobs/{name}`, all of them or none; each a spec or a `JobRequest`.

        `options`, of all jobs: priority, max_retries, visibility, requests. Raises as `submit`.
        """
        return Batch(self, self.batches.submit(pipeline_of(jobs, name, **options), idempotency_key))

    def batch(self, batch_id: UUID | str) -> Batch:
        """A sweep or pipeline."""
        return Batch(self, self.batches.get(_uuid(batch_id)))

    def retry(self, job_id: UUID | str, *, with_dependents: bool = False, idempotency_key: str | None = None) -> Job:
        """Try a job again that failed or was cancelled, by a new one that goes on from its last checkpoint.

        `with_dependents`: and those that waited for it in vain. Raises Conflict.
        """
        response = self._transport.request(
            "POST",
            f"jobs/{_uuid(job_id)}/retry",
            params={"with_dependents": with_dependents},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
            idempotent=True,
        )
        return Job(self, parse(JobView, response))

    def clone(self, job_id: UUID | str, changes: Mapping[str, Any] = {}) -> Job:
        """Ask for a job like another, with some fields of its spec changed: `{"optimizer.lr": 1e-4}`."""
        return self.submit(self.cloned(job_id, changes))

    def cloned(self, job_id: UUID | str, changes: Mapping[str, Any] = {}) -> JobRequest:
        """What `clone` submits. Raises InvalidSpec where the changes do not fit."""
        job = self.job(job_id).view
        request = job.model_dump(mode="json", include=set(JobRequest.model_fields))
        return job_request({**request, "spec": changed(request["spec"], changes)})

    def estimate(self, spec: Spec | Mapping[str, Any]) -> EstimateView:
        """What a job would take, and which workers have that; checked as by `submit`, and not submitted."""
        content = job_request(spec).model_dump_json()
        response = self._transport.request("POST", "estimates", content=content, idempotent=True)
        answer: EstimateView = parse(EstimateView, response)
        return answer

    def jobs(
        self,
        *,
        state: Iterable[JobState | str] = (),
        kind: Iterable[JobKind | str] = (),
        user: str | None = None,
        batch: UUID | str | None = None,
        limit: int | None = None,
    ) -> Iterator[JobSummary]:
        """Newest first; `limit` of them, or all. `user`: who submitted it, or `me`; `batch`: its sweep or pipeline."""
        of = None if batch is None else str(_uuid(batch))
        wanted: Params = {"state": [str(s) for s in state], "kind": list(kind), "user": user, "batch": of}
        return self._pages(TypeAdapter(Page[JobSummary]), "jobs", wanted, limit)

    def job(self, job_id: UUID | str) -> Job:
        return Job(self, self._transport.get(JobView, f"jobs/{_uuid(job_id)}"))

    def cancel(self, job_id: UUID | str, *, with_dependents: bool = False) -> JobView:
        """Ask a job to stop; it does at its next step boundary. Raises Conflict if it has ended.

        `with_dependents`: and all jobs behind it, also where it has ended itself.
        """
        params: Params = {"with_dependents": True} if with_dependents else {}
        answer: JobView = parse(JobView, self._transport.request("POST", f"jobs/{_uuid(job_id)}/cancel", params=params))
        return answer

    def share(self, job_id: UUID | str, to: Visibility = "lab", *, with_inputs: bool = False) -> JobView:
        """Show a job and what it made to the whole lab, or keep them to the `project` again. Raises Forbidden.

        `with_inputs`: and the project's own jobs that made what it was made of.
        """
        response = self._transport.request(
            "PATCH",
            f"jobs/{_uuid(job_id)}",
            params={"with_inputs": with_inputs},
            content=JobChange(visibility=to).model_dump_json(),
            idempotent=True,
        )
        answer: JobView = parse(JobView, response)
        return answer

    def events(self, job_id: UUID | str, after: int | None = None) -> Iterator[EventView]:
        """Events with `seq > after`, each once and in order, until the job ends; reconnects by itself."""
        return job_events(self._transport, _uuid(job_id), after)

    def wait(self, job_id: UUID | str, on_event: OnEvent | None = None, *, check: bool = False) -> JobView:
        """Return the job when it has ended. `on_event` sees every event, from the job's first.

        Raises JobFailed, which carries the job and its Problem, if `check` and it did not succeed.
        """
        view = self.job(job_id).view
        if on_event or not view.state.terminal:
            for event in self.events(view.id, after=None if on_event else view.last_seq):
                if on_event:
                    on_event(event)
            view = self.job(view.id).view
        if check and view.state is not JobState.SUCCEEDED:
            raise JobFailed(view)
        return view

    def metrics(self, job_id: UUID | str, names: Iterable[str] = (), max_points: int = WHOLE_CURVE) -> Curves:
        """A job's curves, thinned to their extremes where they are longer; `.frame()` is a table of pandas."""
        params: Params = {"name": list(names), "max_points": max_points}
        return Curves(self._transport.get(TypeAdapter(list[MetricSeries]), f"jobs/{_uuid(job_id)}/metrics", params))

    def artifacts(self, job_id: UUID | str) -> list[ArtifactView]:
        """With presigned URLs, valid for 15 minutes."""
        answer: list[ArtifactView] = self._transport.get(
            TypeAdapter(list[ArtifactView]), f"jobs/{_uuid(job_id)}/artifacts"
        )
        return answer

    def download(self, artifact: ArtifactView, path: Path | str, tell: OnBytes | None = None) -> Path:
        """Fetch to `path`, or into it if it is a folder. Nothing is left unless size and sha256 are right."""
        return download(artifact, Path(path), self._transport.retry, timeout_s=self._transport.timeout_s, tell=tell)

    def document(self, job_id: UUID | str) -> Document:
        """All that an analysis found, of which its result has the beginning; waits until the job has ended.

        Raises JobFailed if it did not succeed, and NotFound for a job of a kind that leaves no such file.
        """
        job = self.wait(job_id, check=True)
        if job.kind not in DOCUMENTS:
            raise NotFound(f"{job.kind} leaves no document", expected=f"a job of {', '.join(DOCUMENTS)}")
        name, form = DOCUMENTS[job.kind]
        (artifact,) = [each for each in self.artifacts(job.id) if each.name == name]
        with TemporaryDirectory() as folder:
            found: Document = form.model_validate_json(self.download(artifact, folder).read_bytes())
        return found

    def patching(self, job_id: UUID | str) -> PatchDocument:
        """What every place of a `patch` job does: its `document`. Raises NotFound for a job of another kind."""
        found = self.document(job_id)
        if not isinstance(found, PatchDocument):
            raise NotFound(f"job {job_id} has no patch.json", hint="only a patch job has one")
        return found

    # The catalogue, newest first

    def models(self, *, name: str | None = None, limit: int | None = None) -> Iterator[ModelView]:
        return self._pages(TypeAdapter(Page[ModelView]), "models", {"name": name}, limit)

    def datasets(self, *, name: str | None = None, limit: int | None = None) -> Iterator[DatasetView]:
        return self._pages(TypeAdapter(Page[DatasetView]), "datasets", {"name": name}, limit)

    def coders(
        self,
        *,
        name: str | None = None,
        job: UUID | str | None = None,
        model: UUID | str | None = None,
        limit: int | None = None,
    ) -> Iterator[CoderView]:
        params: Params = {"name": name, "job": str(job) if job else None, "model": str(model) if model else None}
        return self._pages(TypeAdapter(Page[CoderView]), "coders", params, limit)

    def coder(self, coder_id: UUID | str) -> LabCoder:
        """One coder and its files."""
        return LabCoder(self, self._transport.get(CoderView, f"coders/{_uuid(coder_id)}"))

    def graphs(
        self, *, name: str | None = None, job: UUID | str | None = None, limit: int | None = None
    ) -> Iterator[GraphView]:
        params: Params = {"name": name, "job": str(job) if job else None}
        return self._pages(TypeAdapter(Page[GraphView]), "graphs", params, limit)

    def graph(self, ref: UUID | str) -> LabGraph:
        """A graph and its picture, by its id or its name, of which it is the newest. Raises NotFound."""
        try:
            id = _uuid(ref)
        except InvalidSpec:
            found = list(self.graphs(name=str(ref), limit=1))
            if not found:
                raise NotFound(f"no graph is named {ref}", hint="`clew graphs` lists them") from None
            id = found[0].id
        view = self._transport.get(GraphDetail, f"graphs/{id}")
        return LabGraph(view, self.graph_document(view.id))

    def graph_document(self, graph_id: UUID | str) -> GraphDocument:
        answer: GraphDocument = self._transport.get(GraphDocument, f"graphs/{_uuid(graph_id)}/document")
        return answer

    # The lab itself

    def health(self) -> Health:
        """Also when a component is down, which the API answers with 503; needs no key."""
        response = self._transport.request("GET", "health", accept=frozenset({503}))
        if response.status_code == 503 and "problem+json" in response.headers.get("Content-Type", ""):
            raise problem_of(response)
        answer: Health = parse(Health, response)
        return answer

    def workers(self) -> list[WorkerView]:
        answer: list[WorkerView] = self._transport.get(TypeAdapter(list[WorkerView]), "workers")
        return answer

    def drain(self, worker: str) -> None:
        """Have a worker give back its job by a checkpoint, and end. Needs an admin key; raises Forbidden, NotFound."""
        self._transport.request("POST", f"workers/{quote(worker, safe='')}/drain", idempotent=True)

    def overview(self) -> LabView:
        """Workers, pools, and what every project may have of them and had."""
        answer: LabView = self._transport.get(LabView, "lab")
        return answer

    def session(self) -> SessionView:
        """Whose key this is."""
        answer: SessionView = self._transport.get(SessionView, "session")
        return answer

    def _pages(self, page_of: TypeAdapter[Page[Item]], path: str, params: Params, limit: int | None) -> Iterator[Item]:
        return self._transport.pages(page_of, path, params, limit)


def _uuid(value: UUID | str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except ValueError as error:
        raise InvalidSpec(f"{value!r} is not an id", expected="a UUID") from error

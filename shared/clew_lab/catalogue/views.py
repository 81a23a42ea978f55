"""Rows as the API shows them."""

from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from clew_lab.catalogue.tables import Attempt, Batch, Coder, Dataset, Event, Graph, Job, Model, Record
from clew_spec.api import (
    AttemptView,
    CoderView,
    DatasetView,
    EventView,
    GraphView,
    JobSummary,
    JobView,
    ModelView,
    ProgressView,
    Standing,
)
from clew_spec.batch_views import BatchView
from clew_spec.errors import Problem
from clew_spec.jobs import JobSpec, JobState

INPUTS = ("model", "dataset", "coders", "graph")
PRIORITIES = {-1: "low", 0: "normal", 1: "high"}

_spec: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


def job_summary(job: Job, project: str, user: str | None, standing: Standing | None, batch: Batch | None) -> JobSummary:
    return JobSummary.model_validate({**_summary(job, project, user, batch), "standing": standing})


def job_view(
    job: Job,
    project: str,
    user: str | None,
    worker: str | None,
    attempts: list[AttemptView],
    standing: Standing | None,
    *,
    batch: Batch | None,
    **linked: Any,
) -> JobView:
    """linked: `depends_on`, `dependents`, `retry_of` and `retries`."""
    return JobView.model_validate(
        {
            **_summary(job, project, user, batch),
            **linked,
            "standing": standing,
            "requests": job.requests,
            "spec": _spec.validate_python(job.spec),
            "pool": job.pool,
            "fence": job.fence,
            "worker": worker,
            "max_retries": job.max_retries,
            "failure_count": job.failure_count,
            "lost_count": job.lost_count,
            "preempt_count": job.preempt_count,
            "result": job.result,
            "attempts": attempts,
            "parents": parents(job.inputs),
            "inputs": {field: parents({field: job.inputs[field]}) for field in INPUTS if field in job.inputs},
            "last_seq": job.last_seq,
        }
    )


def parents(inputs: dict[str, Any]) -> list[UUID]:
    """All the records of `Job.inputs`: the model, the dataset, the coders by layer, then the graph."""
    values = [inputs[field] for field in INPUTS if field in inputs]
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [UUID(one) for values in lists for one in values]


def attempt_view(attempt: Attempt, worker: str | None) -> AttemptView:
    return AttemptView(
        fence=attempt.fence,
        worker=worker,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome,
        error=_problem(attempt.error),
    )


def event_view(event: Event) -> EventView:
    return EventView(
        job_id=event.job_id, seq=event.seq, fence=event.fence, at=event.at, type=event.type, data=event.data
    )


def model_view(model: Model, project: str) -> ModelView:
    return ModelView.model_validate(
        {
            **_record(model, project),
            "config": model.config,
            "tokenizer_digest": model.tokenizer_digest,
            "proof": model.proof,
        }
    )


def dataset_view(dataset: Dataset, project: str) -> DatasetView:
    return DatasetView.model_validate(
        {
            **_record(dataset, project),
            "tokenizer_digest": dataset.tokenizer_digest,
            "context": dataset.context,
            "bos": dataset.bos,
            "train_tokens": dataset.train_tokens,
            "heldout_tokens": dataset.heldout_tokens,
            "n_documents": dataset.n_documents,
            "source": dataset.source,
        }
    )


def coder_view(coder: Coder, project: str) -> CoderView:
    return CoderView.model_validate(
        {
            **_record(coder, project),
            "layer": coder.layer,
            "config": coder.config,
            "model_id": coder.model_id,
            "dataset_id": coder.dataset_id,
            "metrics": coder.metrics,
            "fvu_first": coder.fvu_first,
            "fvu_last": coder.fvu_last,
        }
    )


def graph_view(graph: Graph, project: str) -> GraphView:
    return GraphView.model_validate({**_record(graph, project), "model_id": graph.model_id, "summary": graph.summary})


def batch_view(batch: Batch, project: str, states: dict[JobState, int]) -> BatchView:
    return BatchView.model_validate(
        {
            "id": batch.id,
            "kind": batch.kind,
            "project": project,
            "name": batch.name,
            "size": batch.size,
            "states": states,
            "created_at": batch.created_at,
        }
    )


def _summary(job: Job, project: str, user: str | None, batch: Batch | None) -> dict[str, Any]:
    place = batch and {"id": batch.id, "kind": batch.kind, "name": batch.name, "step": job.step}
    return {
        "id": job.id,
        "batch": place,
        "project": project,
        "user": user,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "priority": PRIORITIES[job.priority],
        "visibility": job.visibility,
        "cancel_requested": job.cancel_requested,
        "progress": _progress(job),
        "error": _problem(job.error),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
    }


def _progress(job: Job) -> ProgressView | None:
    if job.progress is None:
        return None
    return ProgressView.model_validate({"rate": None, "eta_s": None, "at": job.updated_at, **job.progress})


def _problem(error: dict[str, Any] | None) -> Problem | None:
    return None if error is None else Problem.model_validate(error)


def _record(record: Record, project: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "project": project,
        "visibility": record.visibility,
        "name": record.name,
        "job_id": record.job_id,
        "digest": record.digest,
        "lineage": record.lineage,
        "created_at": record.created_at,
    }

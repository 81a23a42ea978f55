"""What the API answers of sweeps and pipelines."""

from datetime import datetime
from uuid import UUID

from clew_spec.api import EstimateView, View
from clew_spec.batches import BatchKind
from clew_spec.jobs import JobState


class BatchView(View):
    """A sweep or a pipeline. Its jobs: `GET /api/v1/jobs?batch={id}`."""

    id: UUID
    kind: BatchKind
    project: str
    name: str
    size: int
    """How many jobs."""
    states: dict[JobState, int]
    """How many of them are in each state."""
    created_at: datetime


class PlannedJob(View):
    """A job of a pipeline, before it is submitted."""

    depends_on: list[str]
    """Names of the jobs that it will wait for."""
    estimate: EstimateView


class PipelineEstimate(View):
    jobs: dict[str, PlannedJob]
    """Each behind those it waits for."""


class SweepEstimate(View):
    jobs: int
    largest: EstimateView
    """Of the job that needs most memory."""
    largest_step: str
    """What that one changes."""
    published_bytes: int | None
    """Of all jobs' results; null where that is not known."""

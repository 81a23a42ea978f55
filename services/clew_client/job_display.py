"""One job on a terminal: what was asked, what happened, what came of it."""

from collections.abc import Iterable, Iterator

import yaml
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from clew_client.display import clean, duration, error_lines, number, short_ids, since, state, table, table_of_shown
from clew_client.result_display import result_parts
from clew_spec.api import EventView, JobSummary, JobView, LinkedJob, MetricSeries, ProgressView, Standing
from clew_spec.errors import Problem
from clew_spec.jobs import JobState


def jobs_table(jobs: Iterable[JobSummary]) -> Table:
    jobs = list(jobs)
    steps = [() if job.batch is None else (job.batch.step,) for job in jobs]
    return table_of_shown(
        jobs,
        ["id", "kind", "name", *(["step"] if any(steps) else []), "by", "state", "progress", "age>", "took>"],
        [
            (
                short,
                job.kind,
                job.name,
                *(step or ("",) if any(steps) else ()),
                job.user or "",
                state(job.state, cancel_requested=job.cancel_requested),
                _how_far(job),
                since(job.created_at),
                since(job.started_at, job.finished_at) if job.started_at else "",
            )
            for job, short, step in zip(jobs, short_ids(job.id for job in jobs), steps, strict=True)
        ],
    )


def job_page(job: JobView, metrics: list[MetricSeries]) -> Iterator[RenderableType]:
    """The parts of `clew show`, in order."""
    yield Text.assemble(
        (f"{job.kind} {job.name}", "bold"), "  ", state(job.state, cancel_requested=job.cancel_requested)
    )
    yield Text(f"{job.id}  priority {job.priority}, of {job.project}, seen by the {job.visibility}, pool {job.pool}")
    yield Text(_times(job))
    if job.standing:
        yield Text(clean(f"waits at {standing_line(job.standing)}: {job.standing.reason}"))
    if job.state is JobState.BLOCKED:
        yield Text(clean("waits for " + ", ".join(map(_linked, job.depends_on))))
    if job.batch:
        yield Text(clean(f"{job.batch.step}, of the {job.batch.kind} {job.batch.name} ({job.batch.id})"))
    if job.retry_of:
        yield Text(clean(f"tries again {_linked(job.retry_of)}"))
    if job.progress and not job.state.terminal:
        yield Text(clean(progress_line(job.progress)))
    yield Text("\nSpec", style="bold")
    spec = job.spec.model_dump(mode="json")
    yield Text(clean(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True).rstrip()))
    if job.attempts:
        yield Text("\nAttempts", style="bold")
        yield _attempts(job)
    if metrics:
        yield Text("\nMetrics, newest values", style="bold")
        last = [
            (series.name, number(series.steps[-1]), number(series.values[-1])) for series in metrics if series.steps
        ]
        yield table(["name", "step>", "value>"], last)
    if job.error:
        yield Text("\nError", style="bold red")
        yield problem_text(job.error)
    yield from result_parts(job.result)


def _linked(job: LinkedJob) -> str:
    return f"{job.kind} {job.name} ({job.id}), which is {job.state}"


def problem_text(problem: Problem) -> Text:
    return Text(clean("\n".join(error_lines(problem))))


def standing_line(standing: Standing) -> str:
    """`position 3, starts in about 4 min 05 s, seen 2 s ago`."""
    starts = "start not known" if standing.eta_s is None else f"starts in about {duration(standing.eta_s)}"
    return f"position {standing.position}, {starts}, seen {since(standing.at)} ago"


def _how_far(job: JobSummary) -> str:
    if job.state is JobState.BLOCKED:
        return "waits for other jobs"
    if job.standing:
        return standing_line(job.standing)
    return "" if job.state.terminal or job.progress is None else progress_line(job.progress)


def progress_line(progress: ProgressView) -> str:
    parts = [f"{progress.phase} {number(progress.done)}/{number(progress.total)} {progress.unit}"]
    if progress.rate is not None:
        parts.append(f"{number(progress.rate)}/s")
    if progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)


def event_line(event: EventView) -> str:
    """One event in the words of `clew show --events`."""
    data = event.data
    match event.type:
        case "log":
            text = f"{data.get('level')}: {data.get('message')}"
        case "metric":
            values = data.get("values") or {}
            text = f"step {data.get('step')}: " + ", ".join(f"{name} {number(value)}" for name, value in values.items())
        case "progress":
            text = progress_line(ProgressView.model_validate({**data, "at": event.at}))
        case _:
            text = ", ".join(f"{name} {value}" for name, value in data.items() if value is not None)
    return f"{event.at:%H:%M:%S} {event.seq:>5}  {event.type:<10}  {text}"


def _times(job: JobView) -> str:
    by = f" by {job.user}" if job.user else ""
    parts = [f"submitted {job.created_at:%Y-%m-%d %H:%M:%S %Z}{by}"]
    if job.started_at:
        parts.append(f"waited {since(job.created_at, job.started_at)}")
        parts.append(f"{'ran' if job.finished_at else 'runs since'} {since(job.started_at, job.finished_at)}")
    if job.worker:
        parts.append(f"on {job.worker}")
    return clean(", ".join(parts))


def _attempts(job: JobView) -> Table:
    return table(
        ["attempt>", "worker", "outcome", "took>", "error"],
        [
            (
                str(attempt.fence),
                attempt.worker or "",
                attempt.outcome or "running",
                since(attempt.started_at, attempt.ended_at) if attempt.started_at else "",
                attempt.error.detail if attempt.error else "",
            )
            for attempt in job.attempts
        ],
    )

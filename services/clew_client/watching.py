"""Follow a job until it ends."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import RenderableType
from rich.text import Text

from clew_client.batches import Batch
from clew_client.display import Bar, clean, console, note, number, print_json, report, say, since, state
from clew_client.job_display import jobs_table, progress_line
from clew_client.lab import Lab
from clew_client.result_display import result_parts
from clew_spec.api import EventView, JobSummary, JobView, ProgressView
from clew_spec.batch_views import BatchView
from clew_spec.jobs import JobState

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

LINES = 10
"""Running jobs of a batch that are shown at once."""

Parts = Callable[[JobView], Iterable[RenderableType]]
"""What is shown of a job that has ended."""


def _result(job: JobView) -> Iterable[RenderableType]:
    return result_parts(job.result)


def watch(lab: Lab, job: JobView, *, as_json: bool, parts: Parts = _result) -> int:
    """Show `job`'s events until it ends, and then `parts` of it.

    Returns the exit code: 0 if it succeeded, 1 if it failed or was cancelled.
    """
    try:
        if as_json:
            end = lab.wait(job.id, print_json)
        else:
            with Board() as board:
                end = lab.wait(job.id, board.event)
    except KeyboardInterrupt:
        note(f"The job goes on. Watch it again: clew watch {job.id}")
        note(f"                 Stop it:        clew cancel {job.id}")
        raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        _ending(end, parts)
    return 0 if end.state is JobState.SUCCEEDED else 1


def watch_batch(batch: Batch, *, as_json: bool) -> int:
    """Show how far a sweep or pipeline is until all its jobs have ended, and say of each how.

    Returns the exit code: 0 if all succeeded, 1 if not.
    """
    try:
        if as_json:
            batch.wait()
        else:
            with BatchBoard(batch.view.size) as board:
                batch.wait(board.look)
    except KeyboardInterrupt:
        note(f"The jobs go on. See them: clew jobs --{batch.view.kind} {batch.id}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(batch.view)
    else:
        console().print(jobs_table(reversed(list(batch.jobs()))))
    return 0 if set(batch.view.states) == {JobState.SUCCEEDED} else 1


def _ending(job: JobView, parts: Parts) -> None:
    took = f" after {since(job.started_at, job.finished_at)}" if job.started_at else ""
    say(Text.assemble(f"{job.kind} {job.name} ", state(job.state), took))
    for part in parts(job):
        console().print(part)
    if job.error:
        report(job.error)
    elif job.state is JobState.SUCCEEDED:
        say(f"More: clew show {job.id}")


class Board(Bar):
    """A bar for the present phase and a line with the newest metrics; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self._phase = ""
        self._metrics: dict[str, float] = {}
        self._step: Any = None
        super().__init__("waiting")

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self._metrics:
            yield Text(clean(metrics_line(self._step, self._metrics)), no_wrap=True, overflow="ellipsis")

    def event(self, event: EventView) -> None:
        data = event.data
        match event.type:
            case "progress":
                self._progress(event)
            case "metric":
                self._step = data.get("step")
                self._metrics |= data.get("values") or {}
            case "state":
                reason = f": {data['reason']}" if data.get("reason") else ""
                self._line(event, f"{data.get('state')}{reason}")
                self.update(self.bar, description=clean(str(data.get("state"))), total=None, line="")
            case "log" if data.get("level") != "debug":
                self._line(event, str(data.get("message")))
            case "checkpoint":
                self._line(event, f"checkpoint at step {data.get('step')}")

    def _progress(self, event: EventView) -> None:
        try:
            progress = ProgressView.model_validate({"rate": None, "eta_s": None, **event.data, "at": event.at})
        except ValidationError:
            return  # how far a job is may be told otherwise by a newer lab; that it runs is what matters
        line = progress_line(progress)
        if progress.phase != self._phase:
            self._phase = progress.phase
            if self.disable:
                self._line(event, line)
        self.update(
            self.bar,
            description=clean(progress.phase),
            completed=progress.done,
            total=progress.total,
            line=clean(line.removeprefix(progress.phase).strip()),
        )

    def _line(self, event: EventView, text: str) -> None:
        self.console.print(f"{event.at.astimezone():%H:%M:%S} {clean(text)}", soft_wrap=True)


class BatchBoard(Bar):
    """A bar of the jobs that have ended and a line for each that runs; plain lines where there is no terminal."""

    def __init__(self, size: int) -> None:
        self._running: list[JobSummary] = []
        self._counts = ""
        super().__init__("jobs")
        self.update(self.bar, total=size)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for job in self._running[:LINES]:
            yield Text(clean(running_line(job)), no_wrap=True, overflow="ellipsis")
        if len(self._running) > LINES:
            yield Text("...")

    def look(self, batch: BatchView, running: list[JobSummary], failed: list[JobSummary]) -> None:
        for job in failed:
            why = f": {job.error.detail}" if job.error else ""
            self.console.print(clean(f"{job.kind} {job.name} ({job.id}) has failed{why}"), soft_wrap=True)
        counts = ", ".join(f"{count:,} {state}" for state, count in batch.states.items())
        if self.disable and counts != self._counts:
            what = "; ".join(map(running_line, running[:LINES]))
            self.console.print(clean(f"{counts}{': ' if what else ''}{what}"), soft_wrap=True)
        self._running, self._counts = running, counts
        ended = sum(count for state, count in batch.states.items() if state.terminal)
        self.update(self.bar, completed=ended, total=sum(batch.states.values()), line=counts)


def running_line(job: JobSummary) -> str:
    """`train first-3: train 40/200 steps, 4 min 05 s left`."""
    return f"{job.kind} {job.name}" + (f": {progress_line(job.progress)}" if job.progress else "")


def metrics_line(step: Any, values: dict[str, float]) -> str:
    """`step 40: loss 0.31, fvu 0.21-0.64 (10 layers)`: what is measured per layer, as the range over layers."""
    groups: dict[str, list[float]] = {}
    for name, value in values.items():
        groups.setdefault(re.sub(r"^L\d+/", "", name), []).append(value)
    shown = [
        f"{name} {number(min(group))}" + (f"-{number(max(group))} ({len(group)} layers)" if len(group) > 1 else "")
        for name, group in groups.items()
    ]
    return f"step {step}: " + ", ".join(shown)

"""`clew jobs`, `show`, `watch`, `cancel`."""

from typing import Annotated

import typer

from clew_client.commands.options import AsJson, JobId, Limit, find_job
from clew_client.display import console, print_json, say
from clew_client.job_display import event_line, job_page, jobs_table
from clew_client.lab import Lab
from clew_client.watching import watch as follow
from clew_spec.api import EventView, JobView
from clew_spec.jobs import POOL_OF, JobState

FEW = 10
"""Points of a series that are asked for where only its newest is shown."""


def register(app: typer.Typer) -> None:
    app.command()(jobs)
    app.command()(show)
    app.command()(watch)
    app.command()(cancel)


def _known_kinds(given: list[str] | None) -> list[str] | None:
    for kind in given or []:
        if kind not in POOL_OF:
            raise typer.BadParameter(f"{kind!r} is not one of {', '.join(POOL_OF)}")
    return given


def jobs(
    state: Annotated[list[JobState] | None, typer.Option(help="Only jobs in this state; may be given again.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only jobs of this kind; may be given again.", metavar="KIND", callback=_known_kinds),
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Lab() as lab:
        found = list(lab.jobs(state=state or [], kind=kind or [], limit=limit))
    if as_json:
        print_json(found)
    elif found:
        console().print(jobs_table(found))
    else:
        say("No jobs.")


def show(
    job_id: JobId,
    events: Annotated[bool, typer.Option("--events", help="Also every event so far.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one job: what was asked, its attempts, metrics, error and result."""
    with Lab() as lab:
        job = lab.job(find_job(lab, job_id)).view
        happened = _events_so_far(lab, job) if events else None
        if as_json:
            view = job.model_dump(mode="json")
            print_json(view if happened is None else view | {"events": happened})
            return
        for part in job_page(job, lab.metrics(job.id, max_points=FEW)):
            console().print(part)
    if happened is not None:
        say("\nEvents")
        for event in happened:
            say(event_line(event))


def watch(job_id: JobId, as_json: AsJson = False) -> None:
    """Follow a job until it ends; exit code 1 unless it succeeds."""
    with Lab() as lab:
        job = lab.job(find_job(lab, job_id)).view
        raise typer.Exit(follow(lab, job, as_json=as_json))


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Ask a job to stop: at once if it waits, at its next step if it runs."""
    with Lab() as lab:
        job = lab.cancel(find_job(lab, job_id))
    if as_json:
        print_json(job)
    else:
        say(f"{job.kind} {job.name} is {job.state}" + ("" if job.state.terminal else " and will stop at its next step"))


def _events_so_far(lab: Lab, job: JobView) -> list[EventView]:
    happened = []
    if job.last_seq > 0:
        for event in lab.events(job.id):
            happened.append(event)
            if event.seq >= job.last_seq:
                break
    return happened

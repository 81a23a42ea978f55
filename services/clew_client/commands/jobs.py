"""`clew jobs`, `show`, `watch`, `share`, `cancel`, `retry`, `clone`."""

from typing import Annotated

import typer

from clew_client.commands.options import AsJson, JobId, Limit, find_job
from clew_client.display import console, print_json, say
from clew_client.estimate_display import show_estimate
from clew_client.job_display import event_line, job_page, jobs_table
from clew_client.lab import Lab
from clew_client.requests import read_change
from clew_client.watching import watch as follow
from clew_spec.api import EventView, JobView
from clew_spec.jobs import POOL_OF, JobState, Visibility

FEW = 10
"""Points of a series that are asked for where only its newest is shown."""


def register(app: typer.Typer) -> None:
    app.command()(jobs)
    app.command()(show)
    app.command()(watch)
    app.command()(share)
    app.command()(cancel)
    app.command()(retry)
    app.command()(clone)


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
    batch: Annotated[
        str | None,
        typer.Option("--batch", "--sweep", "--pipeline", metavar="ID", help="Only jobs of this sweep or pipeline."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Only what this person of the project submitted.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only what you submitted.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    if mine and user is not None:
        raise typer.BadParameter("is for others than --mine", param_hint="--user")
    with Lab() as lab:
        found = list(
            lab.jobs(state=state or [], kind=kind or [], user="me" if mine else user, batch=batch, limit=limit)
        )
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


def share(
    job_id: JobId,
    to: Annotated[Visibility, typer.Option(help="`project` takes it back.")] = "lab",
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="And the project's own jobs that it was made of.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a job and what it made to the whole lab, to read and to use."""
    with Lab() as lab:
        job = lab.share(find_job(lab, job_id), to, with_inputs=with_inputs)
    if as_json:
        print_json(job)
    else:
        say(f"{job.kind} {job.name} is seen by the {job.visibility}")


def cancel(
    job_id: JobId,
    with_dependents: Annotated[
        bool, typer.Option("--with-dependents", help="And all jobs behind it, also where it has ended itself.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a job to stop: at once if it waits, at its next step if it runs."""
    with Lab() as lab:
        job = lab.cancel(find_job(lab, job_id), with_dependents=with_dependents)
    if as_json:
        print_json(job)
    else:
        say(f"{job.kind} {job.name} is {job.state}" + ("" if job.state.terminal else " and will stop at its next step"))


def retry(
    job_id: JobId,
    with_dependents: Annotated[
        bool, typer.Option("--with-dependents", help="And jobs that waited for it in vain.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try a job again that failed or was cancelled, from its last checkpoint, by a new job."""
    with Lab() as lab:
        job = lab.retry(find_job(lab, job_id), with_dependents=with_dependents).view
    _submitted(job, as_json)


def clone(
    job_id: JobId,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Such as optimizer.lr=1e-4; may be given again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the job would take, and do not submit it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a job like another, with some fields of its spec changed."""
    with Lab() as lab:
        request = lab.cloned(find_job(lab, job_id), dict(map(read_change, changes or [])))
        if dry_run:
            raise typer.Exit(show_estimate(lab.estimate(request), as_json=as_json))
        job = lab.submit(request).view
    _submitted(job, as_json)


def _submitted(job: JobView, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        say(f"{job.kind} {job.name} is {job.state}: {job.id}")


def _events_so_far(lab: Lab, job: JobView) -> list[EventView]:
    happened = []
    if job.last_seq > 0:
        for event in lab.events(job.id):
            happened.append(event)
            if event.seq >= job.last_seq:
                break
    return happened

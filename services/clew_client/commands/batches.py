"""`clew batches`: sweeps and pipelines as wholes."""

from typing import Annotated

import typer

from clew_client.batches import Batch
from clew_client.commands.options import AsJson, Limit
from clew_client.display import console, print_json, print_table, say, since
from clew_client.job_display import jobs_table
from clew_client.lab import Lab

BatchId = Annotated[str, typer.Argument(metavar="ID", help="The id of a sweep or pipeline.")]
SHOWN = 50
"""Jobs of one that are shown with it, newest first."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list")(list_)
    group.command()(show)
    group.command()(cancel)
    group.command()(retry)
    app.add_typer(group, name="batches", help="Sweeps and pipelines: list, show, cancel, retry.")


def list_(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List sweeps and pipelines, newest first."""
    with Lab() as lab:
        found = list(lab.batches.all(limit=limit))
    rows = [
        (
            str(batch.id),
            batch.kind,
            batch.name,
            str(batch.size),
            ", ".join(f"{count:,} {state}" for state, count in batch.states.items()),
            since(batch.created_at),
        )
        for batch in found
    ]
    print_table(found, ["id", "kind", "name", "jobs>", "states", "age>"], rows, as_json=as_json)


def show(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Show a sweep or pipeline and its newest jobs."""
    with Lab() as lab:
        _say(lab.batch(batch_id), as_json)


def cancel(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Ask all of its jobs that have not ended to stop."""
    with Lab() as lab:
        _say(lab.batch(batch_id).cancel(), as_json)


def retry(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Try again those of its jobs that failed or were cancelled."""
    with Lab() as lab:
        _say(lab.batch(batch_id).retry(), as_json)


def _say(batch: Batch, as_json: bool) -> None:
    if as_json:
        print_json(batch.view)
        return
    states = ", ".join(f"{count:,} {state}" for state, count in batch.view.states.items())
    say(f"{batch.view.kind} {batch.view.name}: {states}")
    console().print(jobs_table(batch.jobs(limit=SHOWN)))

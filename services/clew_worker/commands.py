"""`clew worker`. Nothing heavy is imported before it runs."""

from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from clew_spec.errors import InvalidSpec


def register(app: typer.Typer) -> None:
    """Add the command of this package (entry-point group `clew.commands`)."""
    app.command(rich_help_panel="To run a lab")(worker)


def worker(
    pool: Annotated[
        Literal["train", "circuits", "all"], typer.Option(help="Whose jobs; all: a worker of each.")
    ] = "all",
    gpus: Annotated[str, typer.Option(help="auto, none or numbers as in 0,1: a worker for each.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Of the worker; of several, what their names begin with.")] = None,
) -> None:
    """Work for the lab that CLEW_* names, on every GPU here or else on the CPU, until Ctrl-C or SIGTERM.

    Told to stop, each worker lets its job write a checkpoint and gives it back.
    """
    from clew_lab.settings import settings
    from clew_worker import fleet

    try:
        settings()
    except ValidationError as error:
        missing = ", ".join(
            f"CLEW_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()
        )
        raise InvalidSpec(f"the environment does not name a lab: {missing}", hint="see docs/operators.md") from None
    raise typer.Exit(fleet.serve(fleet.workers(pool, fleet.on_gpus(gpus), name)))

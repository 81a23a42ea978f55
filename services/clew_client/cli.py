"""The `clew` command.

Exit codes: 0 done (with `--watch`: succeeded), 1 failed or cancelled, 2 the request is not valid, 130 interrupted.
Other packages add sub-commands by the entry-point group `clew.commands`: each entry is a `register(app: typer.Typer)`.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated, NoReturn

import typer

from clew_client.commands import batches, catalogue, circuits, data, graphs, jobs, keys, lab, people, submit
from clew_client.display import note, report, say
from clew_spec.errors import ClewError

PLUGINS = "clew.commands"

INVALID = frozenset({400, 422})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    try:
        build()(args=args, prog_name="clew")
    except ClewError as error:
        report(error)
        sys.exit(2 if error.status in INVALID else 1)
    except OSError as error:
        note(f"Error: {error}")
        sys.exit(1)
    sys.exit(0)


def build() -> typer.Typer:
    """The application, plug-ins included."""
    app = typer.Typer(
        name="clew",
        help="Find circuits in language models with transcoders: ask the lab for work, and see what came of it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a traceback that shows locals shows keys
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for own in (submit, circuits, jobs, batches, catalogue, data, graphs, people, keys, lab):
        own.register(app)
    for entry in sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name):
        try:
            entry.load()(app)
        except Exception as error:  # whatever a plug-in does wrong, the rest of `clew` works
            note(f"Warning: the sub-commands of {entry.value} are missing: {type(error).__name__}: {error}")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        say(f"clew {version('clew')}")
        raise typer.Exit


def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass

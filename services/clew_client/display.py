"""How things look on a terminal. Text that came from elsewhere never carries markup or control characters."""

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from clew_spec.api import JobSummary, RecordView
from clew_spec.errors import ClewError, Problem
from clew_spec.jobs import JobState

PIPE_WIDTH = 200
"""Columns where the output is no terminal and nobody says how wide it is."""

STATE_STYLE = {
    JobState.BLOCKED: "dim",
    JobState.QUEUED: "yellow",
    JobState.DISPATCHED: "cyan",
    JobState.RUNNING: "blue",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, markup=False, emoji=False, highlight=False, width=None if stream.isatty() else PIPE_WIDTH
    )


def say(*parts: str | Text) -> None:
    """A line on stdout."""
    console().print(*(clean(part) if isinstance(part, str) else part for part in parts), soft_wrap=True)


def note(*parts: str | Text) -> None:
    """A line on stderr."""
    console(stderr=True).print(*(clean(part) if isinstance(part, str) else part for part in parts), soft_wrap=True)


def print_json(value: BaseModel | Iterable[BaseModel] | object) -> None:
    """One JSON value on one line."""
    sys.stdout.write(TypeAdapter(object).dump_json(value, serialize_as_any=True).decode() + "\n")
    sys.stdout.flush()


def print_table(
    found: Sequence[BaseModel], columns: Sequence[str], rows: Iterable[Sequence[str]], *, as_json: bool
) -> None:
    """What was found, as JSON or as a table of `rows` that tell of it."""
    if as_json:
        print_json(found)
    else:
        console().print(table(columns, rows))


def clean(text: str) -> str:
    """`text` with its control characters made visible: it may come from another user of the lab."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def state(value: JobState, *, cancel_requested: bool = False) -> Text:
    asked = " (cancel asked)" if cancel_requested and not value.terminal else ""
    return Text(f"{value}{asked}", style=STATE_STYLE[value])


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str | None = None) -> Table:
    """Columns that end in `>` hold numbers."""
    made = Table(
        title=title and Text(clean(title)), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for column in columns:
        name = column.removesuffix(">")
        made.add_column(name, justify="right" if name != column else "left", no_wrap=name == "id", overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(cell)) if isinstance(cell, str) else cell for cell in row))
    if not made.row_count:
        made.add_row(Text("none", style="dim"))
    return made


def table_of_shown(
    found: Iterable[JobSummary | RecordView], columns: Sequence[str], rows: Iterable[Sequence[str | Text]]
) -> Table:
    """As `table`, of rows that tell of what was found; and whose each is, where the lab sees some of them."""
    found = list(found)
    if all(each.visibility == "project" for each in found):
        return table(columns, rows)
    return table([*columns, "project"], [(*row, each.project) for each, row in zip(found, rows, strict=True)])


def error_lines(error: ClewError | Problem) -> list[str]:
    """What was wrong, where, what was expected, what to do: as far as known, for each fault where there are several."""
    if error.errors:
        indented = ("  " + line for inner in error.errors for line in error_lines(inner))
        return [f"{len(error.errors)} faults", *indented]
    lines = [error.detail]
    for label, value in (("where", error.where), ("expected", error.expected), ("hint", error.hint)):
        if value:
            lines.append(f"  {label + ':':<10}{value}")
    return lines


def report(error: ClewError | Problem) -> None:
    first, *rest = error_lines(error)
    note(Text.assemble(("Error: ", "bold red"), clean(first)))
    for line in rest:
        note(line)


class Bar(Progress):
    """One bar with a line behind it, gone when it ends; nothing where there is no terminal."""

    def __init__(self, description: str) -> None:
        screen = console(stderr=True)
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[line]}", markup=False),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self.bar = self.add_task(description, total=None, line="")


def short_ids(values: Iterable[UUID]) -> list[str]:
    """The milliseconds of version 7 UUIDs, enough to tell the jobs of one person apart; of what came together, all."""
    whole = [str(value) for value in values]
    short = [each[:13] for each in whole]
    return short if len({*short}) == len(short) else whole


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def since(then: datetime, until: datetime | None = None) -> str:
    return duration(((until or datetime.now(UTC)) - then).total_seconds())


def number(value: float | None) -> str:
    """Four significant digits; whole numbers with their thousands apart."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e12 else f"{value:.4g}"

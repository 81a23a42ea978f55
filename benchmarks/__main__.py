"""Measure Clew against other projects: `make bench`, `make bench ONLY=training`, `python -m benchmarks training`.

Prints a table and takes the rows into `benchmarks/results.json`. Exits with 1 where a row misses its target, is void or
could not be measured.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import circuits, dashboard, queue, training
from benchmarks.bench import ROOT, Bench, Watch
from benchmarks.child import THREADS
from benchmarks.rows import Row, merge, notes, read_rows, table, write_rows

GROUPS: Mapping[str, Mapping[str, Callable[[Bench], Row]]] = {
    "training": training.MEASURES,
    "circuits": circuits.MEASURES,
    "queue": queue.MEASURES,
    "dashboard": dashboard.MEASURES,
}
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    arguments = parse()
    console = Console()
    bench = Bench(ROOT / ".cache" / "benchmarks", Watch(console), steps=arguments.steps, tiny=arguments.tiny)
    began, found, complete = time.monotonic(), list[Row](), True
    for group in arguments.groups:
        for measure in [measure for measure in GROUPS[group] if measure in (arguments.rows or GROUPS[group])]:
            name = f"{group}/{measure}"
            row = measured(bench, name, GROUPS[group][measure], console)
            rows = [] if row is None else [row]
            complete &= row is not None
            found += rows
            if bench.full:
                write_rows(RESULTS, merge(read_rows(RESULTS), rows, dropped={name}))
        if bench.full and not arguments.rows:
            known = {f"{group}/{measure}" for measure in GROUPS[group]}
            kept = read_rows(RESULTS)
            write_rows(RESULTS, [row for row in kept if row.group != group or row.name in known])
    console.print(table(found), *notes(found), sep="\n")
    console.print(f"{(time.monotonic() - began) / 60:.0f} minutes on {machine()}")
    raise SystemExit(not (complete and all(row.ok for row in found)))


def measured(bench: Bench, name: str, measure: Callable[[Bench], Row], console: Console) -> Row | None:
    """The row, or None where it could not be measured: the other measures do not depend on it."""
    try:
        with bench.watch.over(name):
            return measure(bench).model_copy(update={"machine": machine()})
    except Exception as error:
        console.print(f"{name} could not be measured: {error}", style="red", markup=False)
        return None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join(GROUPS)}; all if none is named")
    parser.add_argument("--rows", type=lambda names: names.split(","), help="only these, such as one-layer,memory")
    parser.add_argument("--steps", type=int, help="fewer repetitions than the measures ask for; nothing is kept")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.groups = arguments.groups or list(GROUPS)
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no group is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    known = {measure for group in arguments.groups for measure in GROUPS[group]}
    if unknown := set(arguments.rows or ()) - known:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    return arguments


def machine() -> str:
    return f"{processor()}, {os.cpu_count()} cores, {THREADS} threads a side, torch {version('torch')}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()

"""What a benchmark found: rows held against their targets, and `results.json`, which keeps them."""

import json
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

Op = Literal[">=", "<="]
Compare = Literal["ratio", "difference", "ours"]

HOLDS: Mapping[Op, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


class Row(BaseModel):
    """One measure, ours beside a peer's. A void row holds numbers that prove nothing: it is never ok."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    """`group/measure`"""
    ours: float
    peer: float | None
    peer_name: str | None
    ratio: float | None
    """What is held against `target`: ours/peer, or ours - peer; null where `ours` itself is."""
    op: Op
    target: float
    ok: bool
    unit: str
    n: int
    """Repetitions of which `ours` and `peer` are the medians."""
    spread: dict[str, tuple[float, float]] = {}
    """Least and most of the repetitions of `ours` and of `peer`."""
    void: str | None = None
    """Why the row proves nothing."""
    note: str = ""
    machine: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        ours: float | Sequence[float],
        peer: float | Sequence[float] | None = None,
        *,
        op: Op,
        target: float,
        unit: str,
        peer_name: str | None = None,
        compare: Compare = "ratio",
        void: str | None = None,
        note: str = "",
    ) -> Self:
        """The row of some repetitions each, or of one number each. A number that is not finite: ValidationError."""
        sides = {"ours": _repetitions(ours)} | ({} if peer is None else {"peer": _repetitions(peer)})
        medians = {side: median(found) for side, found in sides.items()}
        ratio = _compared(compare, medians)
        held = medians["ours"] if ratio is None else ratio
        return cls(
            name=name,
            ours=medians["ours"],
            peer=medians.get("peer"),
            peer_name=peer_name,
            ratio=ratio,
            op=op,
            target=target,
            ok=void is None and HOLDS[op](held, target),
            unit=unit,
            n=min(map(len, sides.values())),
            spread={side: (min(found), max(found)) for side, found in sides.items() if len(found) > 1},
            void=void,
            note=note,
        )

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]


def _repetitions(found: float | Sequence[float]) -> Sequence[float]:
    return [found] if isinstance(found, int | float) else found


def _compared(compare: Compare, medians: Mapping[str, float]) -> float | None:
    match compare:
        case "ratio":
            return medians["ours"] / medians["peer"]
        case "difference":
            return medians["ours"] - medians["peer"]
        case "ours":
            return None


def read_rows(path: Path) -> list[Row]:
    return [Row.model_validate(row) for row in json.loads(path.read_text())] if path.exists() else []


def merge(kept: Iterable[Row], found: Sequence[Row], *, dropped: Iterable[str] = ()) -> list[Row]:
    """The rows after a run, sorted: `found`, and of `kept` those that are neither found anew nor `dropped`."""
    gone = {*dropped, *(row.name for row in found)}
    return sorted([*(row for row in kept if row.name not in gone), *found], key=lambda row: row.name)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Take the place of the file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps([row.model_dump() for row in rows], indent=1) + "\n")
    os.replace(fresh, path)


def table(rows: Sequence[Row]) -> Table:
    shown = Table(title="Benchmarks", caption="medians; the least and the most below them")
    for column in ("measure", "ours", "peer", "ratio", "target", ""):
        shown.add_column(column, justify="left" if column in ("measure", "") else "right")
    for row in rows:
        verdict = Text("void", "yellow") if row.void else Text("ok", "green") if row.ok else Text("missed", "red")
        shown.add_row(
            f"{row.name}\n  {row.unit}" + (f", {row.peer_name}" if row.peer_name else ""),
            _side(row.ours, row.spread.get("ours")),
            "" if row.peer is None else _side(row.peer, row.spread.get("peer")),
            "" if row.ratio is None else f"{row.ratio:.3g}",
            f"{row.op} {row.target:g}",
            verdict,
        )
    return shown


def notes(rows: Sequence[Row]) -> list[str]:
    """What is to be known beside the numbers, a line each."""
    return [f"{row.name}: {part}" for row in rows for part in (row.void and f"void, {row.void}", row.note) if part]


def _side(value: float, spread: tuple[float, float] | None) -> str:
    return f"{value:,.4g}" + (f"\n{spread[0]:,.4g}-{spread[1]:,.4g}" if spread else "")

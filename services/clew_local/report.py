"""What `clew status` shows: each part as it is now, asked itself where it can be."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clew_local import credentials
from clew_local import state as states
from clew_local.servers import Stack
from clew_local.services import health, workers


@dataclass
class PartReport:
    name: str
    ok: bool
    detail: str
    pid: int | None
    port: int | None
    restarts: int


@dataclass
class Report:
    data: str
    state: str
    """`running`, `starting`, `stopping`, `stopped`, `failed`, or `killed`: it ended without saying so."""
    url: str | None
    detail: str | None = None
    parts: list[PartReport] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.state == "running" and all(part.ok for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def report(data: Path) -> Report:
    """Look at the lab in `data`. Every server is tried: a login, a PING, a write; the API is asked for its health."""
    lab = states.load(data)
    if lab is None:
        return Report(str(data), "stopped", None, "no lab was ever started here")
    if not lab.alive:
        ended = lab.state if lab.state in ("stopped", "failed") else "killed"
        return Report(str(data), ended, None, lab.detail)
    found = Report(str(data), lab.state, lab.url, lab.detail)
    port = next((part.port for part in lab.parts if part.name == "api"), None)
    answer = health(port) if port else None
    key = credentials.stored_key(data)
    known = workers(port, key) if port and key else {}
    probes = {server.name: server.ready for server in Stack(data, environ={}).servers}
    for part in lab.parts:
        ok, detail = part.state == "ready", part.state
        if part.state == "external":
            ok = bool(_components(answer).get(part.name, {}).get("ok"))
            detail = "not ours; " + ("the API reaches it" if ok else "the API does not reach it")
        elif ok and part.name == "api":
            ok = answer is not None and bool(answer.get("ok"))
            detail = "healthy" if ok else "; ".join(_complaints(answer)) or "does not answer"
        elif ok and part.name in probes:
            ok = probes[part.name]()
            detail = "healthy" if ok else "does not answer"
        elif ok:
            detail = _worker(known.get(part.name.removeprefix("worker-"))) or "running"
        found.parts.append(PartReport(part.name, ok, detail, part.pid, part.port, part.restarts))
    return found


def print_report(found: Report) -> None:
    console = Console()
    console.print(f"[bold]{found.state}[/bold]  {found.url or ''}  {found.data}", highlight=False)
    if found.detail:
        console.print(found.detail, highlight=False, markup=False)
    if not found.parts:
        return
    table = Table("part", "health", "pid", "port", "restarts", box=None, pad_edge=False)
    for part in found.parts:
        colour = "green" if part.ok else "red"
        words = (str(value) if value is not None else "" for value in (part.pid, part.port, part.restarts))
        table.add_row(part.name, f"[{colour}]{part.detail}[/{colour}]", *words)
    console.print(table)


def _worker(known: dict[str, Any] | None) -> str | None:
    if known is None:
        return None
    doing = f"works on {known['job_id']}" if known["job_id"] else "free"
    return f"{'draining' if known['draining'] else doing}, beat {known['beat_age_s']:.0f} s ago"


def _components(answer: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    return dict((answer or {}).get("components", {}))


def _complaints(answer: dict[str, Any] | None) -> Iterator[str]:
    for name, component in _components(answer).items():
        if not component.get("ok"):
            yield f"{name}: {component.get('detail')}"

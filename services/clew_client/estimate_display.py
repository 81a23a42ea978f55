"""What a job would take, on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from clew_client.display import clean, duration, number, table
from clew_spec.api import EstimateView
from clew_spec.estimates import Estimate, TimeRange
from clew_spec.units import size


def estimate_line(said: Estimate) -> str:
    """`needs about 3.1 GiB of memory, 410.0 MiB of disk, 20 min 05 s`, as far as it is known."""
    parts = [
        f"{size(said.memory_bytes)} of memory" if said.memory_bytes is not None else "",
        f"{size(said.disk_bytes)} of disk" if said.disk_bytes is not None else "",
        time_text(said.time_s) if said.time_s else "",
    ]
    known = ", ".join(part for part in parts if part)
    return f"needs about {known}" if known else f"what it needs is not known: {next(iter(said.unknown.values()), '')}"


def estimate_parts(found: EstimateView) -> Iterator[RenderableType]:
    """The parts of `clew submit --dry-run`, in order."""
    said = found.estimate
    rows: list[tuple[str, str, str]] = []
    if said.memory:
        rows.append(("memory", size(said.memory.bytes), f"at its fullest, during {said.memory.moment}:"))
        rows += [("", size(part.bytes), part.name) for part in said.memory.parts]
    if said.disk:
        rows.append(("disk", size(said.disk.bytes), "of which"))
        rows.append(("", size(said.disk.published_bytes), "results, in the store"))
        rows.append(("", size(said.disk.checkpoint_bytes), "checkpoints, in the store while it runs"))
        rows.append(("", size(said.disk.worker_bytes), "on the worker while it runs"))
    if said.tokens is not None:
        rows.append(("tokens", number(said.tokens), "that the model reads"))
    if said.flops is not None:
        rows.append(("work", number(said.flops), "FLOP at most"))
    if said.time_s:
        basis = f"by {said.time_s.jobs} finished job{'s' if said.time_s.jobs > 1 else ''} of this model"
        rows.append(("time", time_text(said.time_s), basis))
    rows += [(name.removesuffix("_s"), "-", f"not known: {why}") for name, why in said.unknown.items()]
    yield table(["", ">", ""], rows)
    if found.workers:
        fits = {True: Text("yes", style="green"), False: Text("no", style="red")}
        yield Text()
        yield table(
            ["worker", "device", "memory>", "fits"],
            [(each.name, each.device, size(each.memory_bytes), fits[each.fits]) for each in found.workers],
        )
    if found.reason:
        yield Text(clean(found.reason), style="" if found.fits else "bold red")


def time_text(time: TimeRange) -> str:
    low, high = duration(time.low), duration(time.high)
    return low if low == high else f"{low} to {high}"

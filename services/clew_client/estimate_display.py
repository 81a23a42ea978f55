"""What a job would take, on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from clew_client.display import clean, console, duration, number, print_json, say, table
from clew_spec.api import EstimateView
from clew_spec.batch_views import PipelineEstimate, SweepEstimate
from clew_spec.estimates import Estimate, TimeRange
from clew_spec.units import size

TOO_LARGE = 2
"""Exit code of a dry run whose job would be refused, as its submission has it."""


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


def show_estimate(found: EstimateView, *, as_json: bool) -> int:
    """What a dry run prints; returns its exit code."""
    if as_json:
        print_json(found)
    else:
        for part in estimate_parts(found):
            console().print(part)
    return 0 if found.fits else TOO_LARGE


def show_sweep_estimate(found: SweepEstimate, *, as_json: bool) -> int:
    """As `show_estimate`, of the largest job."""
    if as_json:
        print_json(found)
        return 0 if found.largest.fits else TOO_LARGE
    stored = "" if found.published_bytes is None else f", which together store {size(found.published_bytes)}"
    say(f"{found.jobs:,} jobs{stored}. The largest of them, {found.largest_step}:")
    return show_estimate(found.largest, as_json=False)


def show_pipeline_estimate(found: PipelineEstimate, *, as_json: bool) -> int:
    """What each job waits for, and takes."""
    if as_json:
        print_json(found)
    else:
        rows = [
            (name, ", ".join(job.depends_on), estimate_line(job.estimate.estimate), job.estimate.reason or "")
            for name, job in found.jobs.items()
        ]
        console().print(table(["job", "waits for", "takes", "remarks"], rows))
    return 0 if all(job.estimate.fits for job in found.jobs.values()) else TOO_LARGE


def time_text(time: TimeRange) -> str:
    low, high = duration(time.low), duration(time.high)
    return low if low == high else f"{low} to {high}"

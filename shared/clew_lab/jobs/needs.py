"""What a worker must have to be given a job."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import once
from clew_spec.estimates import Facts, estimate
from clew_spec.jobs import JobSpec, Requests
from clew_spec.units import size

FITS = """(
    workers.gpus >= jobs.needs_gpus
    and (workers.cpus = 0 or workers.cpus >= jobs.needs_cpus)
    and (workers.ram_bytes = 0 or workers.ram_bytes >= jobs.needs_ram)
    and (workers.memory_bytes = 0 or workers.memory_bytes
         >= case when workers.gpus > 0 then jobs.needs_gpu_memory else jobs.needs_ram_alone end)
)"""
"""Whether a worker has what a job needs, in SQL, of rows named `workers` and `jobs`: the one place that decides it."""

_FITTING = text(f"""
    select workers.id from workers, (
        select cast(:gpus as int) as needs_gpus, cast(:cpus as int) as needs_cpus,
               cast(:gpu_memory as bigint) as needs_gpu_memory, cast(:ram as bigint) as needs_ram,
               cast(:ram_alone as bigint) as needs_ram_alone
    ) as jobs
    where workers.id = any(:workers) and {FITS}
""")  # noqa: S608  # a fixed text

COLUMNS = "needs_gpus, needs_cpus, needs_gpu_memory, needs_ram, needs_ram_alone"


class Capacity(Protocol):
    """What `workers` have."""

    name: str
    gpus: int
    cpus: int
    ram_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class Needs:
    """The columns `needs_...` of a job; 0 is nothing, or not known."""

    gpus: int = 0
    cpus: int = 0
    gpu_memory: int = 0
    ram: int = 0
    ram_alone: int = 0

    @property
    def columns(self) -> dict[str, int]:
        return {f"needs_{name}": value for name, value in asdict(self).items()}

    def memory(self, worker: Capacity) -> int:
        """Bytes where this worker computes: of its GPU, else of its machine."""
        return self.gpu_memory if worker.gpus else self.ram_alone


NOTHING = Needs()


def needs_of(spec: JobSpec, facts: Facts, requests: Requests) -> Needs:
    """What was asked for, and where nothing was, the memory that the spec's arithmetic says."""

    def estimated(device: str) -> int:
        return estimate(spec, facts.model_copy(update={"device": device})).memory_bytes or 0

    asked, alone = requests.gpu_memory_bytes, requests.memory_bytes
    return Needs(
        gpus=requests.gpus or 0,
        cpus=requests.cpus or 0,
        gpu_memory=estimated("cuda") if asked is None else asked,
        ram=requests.memory_bytes or 0,
        ram_alone=estimated("cpu") if alone is None else alone,
    )


def fitting(session: Session, needs: Needs, workers: Sequence[UUID]) -> list[UUID]:
    """Those of the workers that have it."""
    if not workers:
        return []
    asked = {**asdict(needs), "workers": list(workers)}
    return list(once(session, ("fitting", needs, *workers), lambda: session.scalars(_FITTING, asked).all()))


def shortfall(needs: Needs, workers: Sequence[Capacity]) -> str:
    """What no worker has of it, as the end of a sentence that begins with `it needs`. workers: at least one."""
    if needs.gpus and not any(worker.gpus for worker in workers):
        return "a GPU, and no worker has one"
    largest = max(workers, key=lambda worker: worker.memory_bytes)
    if 0 < largest.memory_bytes < needs.memory(largest):
        asked, most = size(needs.memory(largest)), size(largest.memory_bytes)
        return f"about {asked} of memory, and the largest worker, {largest.name}, has {most}"
    cpus = max(worker.cpus for worker in workers)
    if 0 < cpus < needs.cpus:
        return f"{needs.cpus} CPUs, and no worker has more than {cpus}"
    ram = max(worker.ram_bytes for worker in workers)
    if 0 < ram < needs.ram:
        return f"{size(needs.ram)} of its machine's memory, and no worker has more than {size(ram)}"
    return "what some workers have, and no worker has all of it"

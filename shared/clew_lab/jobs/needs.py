"""What a worker must have to be given a job."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import once
from clew_spec.estimates import Facts, estimate
from clew_spec.jobs import JobSpec, Requests
from clew_spec.units import size

FITS = """(
    workers.gpus >= jobs.needs_gpus
    and coalesce(workers.cpus >= jobs.needs_cpus, true)
    and coalesce(workers.ram_bytes >= jobs.needs_ram, true)
    and coalesce(workers.memory_bytes
        >= case when workers.on_gpu then jobs.needs_gpu_memory else jobs.needs_ram_alone end, true)
)"""
"""Whether there is room for a job, in SQL, of rows of `OFFERS` and rows named `jobs`: the one place that decides it."""

OFFERS = """jsonb_to_recordset(cast(:offers as jsonb)) as workers (
    id uuid, place int, priority int, open bool, on_gpu bool, gpus int, cpus int, ram_bytes bigint, memory_bytes bigint
)"""
"""Workers with what they have to give, as `whole` and `clew_lab.jobs.floor` say it."""

_FITTING = text(f"""
    select workers.id from {OFFERS}, (
        select cast(:gpus as int) as needs_gpus, cast(:cpus as int) as needs_cpus,
               cast(:gpu_memory as bigint) as needs_gpu_memory, cast(:ram as bigint) as needs_ram,
               cast(:ram_alone as bigint) as needs_ram_alone
    ) as jobs
    where {FITS}
""")  # noqa: S608  # fixed texts

COLUMNS = "needs_gpus, needs_cpus, needs_gpu_memory, needs_ram, needs_ram_alone"


class Capacity(Protocol):
    """What `workers` have, where nothing else is; 0 but of GPUs is not known."""

    @property
    def id(self) -> UUID: ...
    @property
    def name(self) -> str: ...
    @property
    def gpus(self) -> int: ...
    @property
    def cpus(self) -> int: ...
    @property
    def ram_bytes(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...


@dataclass(frozen=True)
class Needs:
    """The columns `needs_...` of a job; 0 is nothing, or not known."""

    gpus: int = 0
    cpus: int = 0
    gpu_memory: int = 0
    ram: int = 0
    ram_alone: int = 0

    @classmethod
    def of(cls, row: object, prefix: str = "") -> "Needs":
        """Of a row with these columns, or with none of them set."""
        return cls(*(getattr(row, f"{prefix}{name}") or 0 for name in COLUMNS.split(", ")))

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


def whole(worker: Capacity) -> dict[str, Any]:
    """A row of `OFFERS`: all that the worker has. What is not known is null, and nothing is refused for it."""
    return {
        "id": str(worker.id),
        "on_gpu": worker.gpus > 0,
        "gpus": worker.gpus,
        **{name: getattr(worker, name) or None for name in ("cpus", "ram_bytes", "memory_bytes")},
    }


def fitting(session: Session, needs: Needs, workers: Sequence[Capacity]) -> list[UUID]:
    """Those of the workers that have it, if they have nothing else to do."""
    if not workers:
        return []
    asked = {**asdict(needs), "offers": json.dumps([whole(worker) for worker in workers])}
    key = ("fitting", needs, *(worker.id for worker in workers))
    return list(once(session, key, lambda: session.scalars(_FITTING, asked).all()))


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

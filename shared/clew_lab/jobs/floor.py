"""The floor: the workers, what each holds, and what is left beside that on their machines and GPUs.

Workers of one machine share its CPUs and its memory, workers of one GPU that GPU and its memory. From its dispatch
until it ends a job counts there as what was asked for, and where nothing was, as what its submission estimated; what is
neither asked for nor known counts as nothing. A worker that does not say where it is shares nothing.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from clew_lab.jobs.choice import Candidate
from clew_lab.jobs.needs import COLUMNS, NOTHING, Needs, whole
from clew_spec.jobs import JobState

LOW = -1


def _needs(of: str) -> str:
    return ", ".join(f"{of}.{column} as {of}_{column}" for column in COLUMNS.split(", "))


_WORKERS = text(f"""
    -- One statement, so one snapshot: between two of them a claim could make a worker look free twice.
    select workers.*, seen.live, coalesce(extract(epoch from workers.rests_until - now())::float, 0) as rests_s,
           held.id as job_id, held.state as job_state, held.kind as job_kind, held.priority as job_priority,
           held.preempt_requested, attempts.started_at as job_started_at,
           extract(epoch from now() - attempts.started_at)::float as ran_s,
           cast(held.progress ->> 'eta_s' as float)
           - extract(epoch from now() - coalesce(cast(held.progress ->> 'at' as timestamptz), now()))::float as eta_s,
           kept.id as kept_id, kept.project_id as kept_project_id, kept.priority as kept_priority,
           kept.created_at as kept_created_at, {_needs("held")}, {_needs("kept")}
    from workers
    cross join lateral (
        select workers.beat_at > now() - make_interval(secs => :alive_s) and not workers.draining as live
    ) seen
    left join jobs held on held.worker_id = workers.id and held.state in ('dispatched', 'running')
    left join attempts on attempts.job_id = held.id and attempts.fence = held.fence
    left join jobs kept on kept.id = workers.reserved_for and kept.state = 'queued' and seen.live
    where seen.live or held.id is not null
    -- Whoever left a bell unanswered is asked last, until it answers one.
    order by workers.unanswered > 0, workers.memory_bytes, workers.beat_at desc
""")  # noqa: S608  # fixed texts


@dataclass
class Holder:
    """A worker and what it holds. One that is not live is given nothing, but what it holds still takes its place."""

    id: UUID
    name: str
    pool: str
    live: bool
    machine: str | None
    gpu_uuid: str | None
    gpus: int
    cpus: int
    ram_bytes: int
    memory_bytes: int
    rests_s: float = 0.0
    """For how long it is given nothing, since it left bells unanswered."""
    job_id: UUID | None = None
    state: str | None = None
    kind: str | None = None
    priority: int | None = None
    preempt_requested: bool = False
    started_at: datetime | None = None
    ran_s: float | None = None
    eta_s: float | None = None
    needs: Needs = NOTHING
    """Of its job."""
    kept: Candidate | None = None
    kept_needs: Needs = NOTHING

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return self.live and self.job_id is None and self.rests_s <= 0

    def open_to(self, priority: int) -> bool:
        """Whether it is kept for no job that one of this priority may not overtake."""
        return self.kept is None or self.kept.priority < priority

    @property
    def makes_room(self) -> bool:
        """Whether it runs a job that gives way to high ones."""
        running = self.live and self.state == JobState.RUNNING.value
        return running and self.priority == LOW and self.started_at is not None

    @property
    def places(self) -> frozenset[str]:
        """What others may share with it."""
        return frozenset(place for place in (self.machine, self.gpu_uuid) if place is not None)

    def hold(self, job_id: UUID, needs: Needs) -> None:
        """It is given this job now."""
        self.job_id, self.state, self.needs = job_id, JobState.DISPATCHED.value, needs

    def keep(self, job: Candidate | None, needs: Needs = NOTHING) -> None:
        """It is kept for this job from now on; None: for none."""
        self.kept, self.kept_needs = job, needs

    def takes(self, priority: int, gone: Set[UUID]) -> Needs:
        """What is not left beside it for a job of this priority: of what it runs and what it is kept for, the larger.

        gone: jobs that are supposed to have ended.
        """
        runs = self.needs if self.job_id not in gone else NOTHING
        waits = self.kept_needs if self.kept is not None and self.kept.priority >= priority else NOTHING
        return Needs(*map(max, astuple(runs), astuple(waits)))


def floor(session: Session, *, alive_s: float) -> list[Holder]:
    """Every live worker, and every other that holds a job; the first ones are preferred.

    alive_s: how old a live worker's beat may be.
    """
    return [_holder(row) for row in session.execute(_WORKERS, {"alive_s": alive_s})]


def beside(holder: Holder, holders: Iterable[Holder]) -> list[Holder]:
    """Those that share its machine or its GPU."""
    return [other for other in holders if other.id != holder.id and other.places & holder.places]


def offer(holder: Holder, holders: Sequence[Holder], priority: int, gone: Set[UUID] = frozenset()) -> dict[str, Any]:
    """A row of `needs.OFFERS`: what this worker has for a job of this priority, once its own job has ended.

    gone: other jobs that are supposed to have ended.
    """
    cpus = ram = gpus = gpu_memory = 0
    for other in beside(holder, holders):
        taken = other.takes(priority, gone)
        if other.machine == holder.machine is not None:
            cpus += taken.cpus
            ram += taken.ram if other.gpus else max(taken.ram, taken.ram_alone)
        if other.gpu_uuid == holder.gpu_uuid is not None:
            gpus += taken.gpus
            gpu_memory += taken.gpu_memory
    row = whole(holder)
    taken_by_name = {"gpus": gpus, "cpus": cpus, "ram_bytes": ram, "memory_bytes": gpu_memory if holder.gpus else ram}
    for name, taken_there in taken_by_name.items():
        if row[name] is not None:  # what asks for nothing may run where more is taken than there is
            row[name] = max(0, row[name] - taken_there)
    return {**row, "priority": priority}


def _holder(row: Row[Any]) -> Holder:
    kept = None
    if row.kept_id is not None:
        kept = Candidate(row.kept_id, row.kept_project_id, row.kept_priority, row.kept_created_at, (), aged=True)
    return Holder(
        **{name: getattr(row, name) for name in ("id", "name", "pool", "live", "machine", "gpu_uuid", "gpus", "cpus")},
        ram_bytes=row.ram_bytes,
        memory_bytes=row.memory_bytes,
        rests_s=row.rests_s,
        job_id=row.job_id,
        state=row.job_state,
        kind=row.job_kind,
        priority=row.job_priority,
        preempt_requested=bool(row.preempt_requested),
        started_at=row.job_started_at,
        ran_s=row.ran_s,
        eta_s=row.eta_s,
        needs=Needs.of(row, "held_"),
        kept=kept,
        kept_needs=Needs.of(row, "kept_"),
    )

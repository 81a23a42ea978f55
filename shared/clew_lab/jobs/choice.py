"""Which waiting job gets which free worker: the rule alone, without a database.

Order: priority; then a job for which a worker is kept; then what its project has used over its weight, counting what it
is given meanwhile; then age. A job that no free worker fits is passed by those behind it. One that has waited long
enough is named when that happens, so that a worker that fits it can be kept for it.

Of workers that share a machine or a GPU one is given a job: what is left there for the next has to be counted anew.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from clew_lab.jobs.share import Account


@dataclass(frozen=True)
class Candidate:
    """A waiting job."""

    id: UUID
    project_id: UUID
    priority: int
    created_at: datetime
    fits: Sequence[UUID]
    """The free workers that can run it, the most fitting first."""
    aged: bool = False
    """Whether it has waited long enough to have a worker kept for it."""

    @property
    def turn(self) -> tuple[int, datetime, UUID]:
        """Its place among its project's."""
        return (-self.priority, self.created_at, self.id)


@dataclass(frozen=True)
class Free:
    """A worker without a job."""

    id: UUID
    kept: Candidate | None = None
    """The waiting job it is kept for."""
    places: frozenset[str] = frozenset()
    """What other workers may share with it."""

    def may_run(self, job: Candidate) -> bool:
        return self.kept is None or self.kept.id == job.id or self.kept.priority < job.priority


@dataclass
class Choice:
    given: list[tuple[Candidate, UUID]] = field(default_factory=list)
    """Jobs and their workers, in order."""
    passed: list[Candidate] = field(default_factory=list)
    """Aged jobs that were passed by, in order."""


def choose(free: Iterable[Free], waiting: Iterable[Candidate], accounts: Mapping[UUID, Account]) -> Choice:
    """Give free workers to waiting jobs, and count that in their accounts.

    waiting: of each project and priority the oldest job, and enough of the oldest that fit; and those that one of the
    workers is kept for.
    """
    waiting = list(waiting)
    left = {worker.id: worker for worker in free}
    kept = {worker.kept.id: worker.id for worker in left.values() if worker.kept is not None}
    beside = set[UUID]()
    queues: dict[UUID, list[Candidate]] = {}
    for job in sorted(waiting, key=lambda job: job.turn, reverse=True):
        queues.setdefault(job.project_id, []).append(job)
    turns: list[tuple[int, float, datetime, UUID, Candidate]] = []

    def line_up(job: Candidate, share: float) -> None:
        heapq.heappush(turns, (-job.priority, share, job.created_at, job.id, job))

    def next_of(project_id: UUID) -> None:
        if queue := queues.get(project_id):
            line_up(queue.pop(), accounts[project_id].share)

    for job in waiting:
        if job.id in kept:
            line_up(job, -1)
    for project_id in queues:
        next_of(project_id)
    choice, done = Choice(), set[UUID]()
    while left and turns:
        _, share, _, _, job = heapq.heappop(turns)
        account = accounts[job.project_id]
        if 0 <= share < account.share:  # it was given a job since it was lined up
            line_up(job, account.share)
            continue
        if not account.full and job.id not in done:
            done.add(job.id)
            able = [id for id in job.fits if id in left and left[id].may_run(job)]
            if able:
                own = kept.get(job.id)
                given = left.pop(own if own in able else able[0])
                choice.given.append((job, given.id))
                account.give()
                near = [id for id, worker in left.items() if worker.places & given.places]
                beside.update(near)
                for id in near:
                    del left[id]
            elif job.aged and beside.isdisjoint(job.fits):
                choice.passed.append(job)
        if share >= 0:
            next_of(job.project_id)
    return choice

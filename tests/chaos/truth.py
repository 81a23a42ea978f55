"""What the store must hold, in plain Python: the model that `tests.chaos.machine` compares it with."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from clew_lab.jobs.accept import PRIORITIES
from clew_lab.jobs.moves import HELD
from clew_spec.jobs import JobState

Q, D, R = JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING
S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
DISPATCH_LEASE_S, RUNNING_LEASE_S, ALIVE_S = 30, 60, 30
"""As `Queue` has them."""
MAX_LOST = 2
LOW, HIGH = PRIORITIES["low"], PRIORITIES["high"]
SIZES = {"w0": 1, "w1": 2, "w2": 2}
"""Bytes of memory of each worker."""
MACHINES = {"w1": "m", "w2": "m"}
"""Of workers that share their memory."""


@dataclass
class Truth:
    """What a job must be. size: bytes that it needs of its worker."""

    retries: int
    project: int = 0
    priority: int = 0
    size: int = 0
    state: JobState = Q
    fence: int = 0
    lease_until: int = 0
    worker: str | None = None
    cancel: bool = False
    preempt: bool = False
    failures: int = 0
    losses: int = 0

    def holds(self, fence: int) -> bool:
        return self.state is R and self.fence == fence

    def end(self, state: JobState) -> None:
        self.state, self.worker = state, None
        if state is Q:
            self.preempt = False

    def back(self) -> None:
        self.end(C if self.cancel else Q)

    def lost(self) -> None:
        self.losses += 1
        self.end(F) if self.losses > MAX_LOST and not self.cancel else self.back()


@dataclass
class Holder:
    """A worker that believes it has a job."""

    worker: str
    job_id: UUID
    fence: int
    told: int = 0


@dataclass
class Turn:
    """One decision of a scheduler and the laws it keeps: not the rule again, but what any fair one would.

    live: workers that are there. resting: those that left bells unanswered lately. free: those that could be given
    something. before: each project's jobs on workers. quotas: how many of them a project may have; None is any number.
    """

    jobs: Mapping[UUID, Truth]
    live: set[str]
    resting: set[str]
    free: set[str] = field(init=False)
    before: Counter[int] = field(init=False)
    quotas: Mapping[int, int | None]
    kept: Mapping[str, Truth] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free = self.live - self.resting - {truth.worker for truth in self._held()}
        self.before = self._in_flight()

    def check(self, given: Mapping[str, Truth], asked: Iterable[Truth], kept: Mapping[str, Truth]) -> None:
        """given: jobs by their new worker. asked: jobs that were asked to give way. kept: jobs by what is reserved."""
        self.kept = kept
        assert given.keys() <= self.free, "a worker was given something that had something, or is not there, or rests"
        now = self._in_flight()
        for project, most in self.quotas.items():
            assert most is None or now[project] <= max(most, self.before[project]), f"project {project} has too many"
        waiting = [truth for truth in self.jobs.values() if truth.state is Q and not self._full(truth.project, now)]
        for worker in self.free - given.keys() - kept.keys():
            assert not any(self._fits(one, worker) for one in waiting), f"{worker} is free, and nothing is given to it"
        for worker, truth in given.items():
            overtaken = [one for one in waiting if one.priority > truth.priority and self._fits(one, worker)]
            assert not overtaken, f"{worker} was given {truth} before {overtaken}"
        self._room_is_made([one for one in waiting if one.priority == HIGH], asked, self.free - given.keys())

    def _fits(self, one: Truth, worker: str, gone: Sequence[Truth] = ()) -> bool:
        """Beside what others of its machine hold, or are kept for; one that asks for nothing always does."""
        left = SIZES[worker]
        for other in SIZES:
            if other != worker and MACHINES.get(other, other) == MACHINES.get(worker, worker):
                sizes = [truth.size for truth in self._held() if truth.worker == other and truth not in gone]
                if other in self.live and other in self.kept and self.kept[other].priority >= one.priority:
                    sizes.append(self.kept[other].size)
                left -= max(sizes, default=0)
        return one.size <= max(0, left)

    def _room_is_made(self, high: list[Truth], asked: Iterable[Truth], free: set[str]) -> None:
        low = [truth for truth in self._held() if truth.state is R and truth.priority == LOW]
        low = [truth for truth in low if truth.worker in self.live]
        on_low = {truth.worker for truth in low if truth.worker is not None}
        places = {MACHINES.get(worker, worker) for worker in on_low}
        won = {worker for worker in on_low | free if any(self._fits(one, worker, low) for one in high)}
        won = {worker for worker in won if MACHINES.get(worker, worker) in places}
        won_at = {MACHINES.get(worker, worker) for worker in won}
        for truth in asked:
            assert truth in low, f"{truth} is asked to give way"
            assert MACHINES.get(str(truth.worker), truth.worker) in won_at, f"nothing is won if {truth} gives way"
        unkept = won - self.kept.keys()
        assert not unkept or any(truth.preempt for truth in low), f"{high[0]} waits for {unkept}"

    def _held(self) -> list[Truth]:
        return [truth for truth in self.jobs.values() if truth.state in HELD]

    def _in_flight(self) -> Counter[int]:
        return Counter(truth.project for truth in self._held())

    def _full(self, project: int, now: Mapping[int, int]) -> bool:
        most = self.quotas[project]
        return most is not None and now[project] >= most

"""What may go wrong, one fault after another from a seed; several may last side by side."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random

import psutil
import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.chaos.house import LEASE_S, WORKERS, House, Resident, Role
from tests.support.proxy import Proxy

from clew_lab.jobs.broker import ring
from clew_lab.jobs.dispatch import Bell
from clew_local.servers.stack import Server
from clew_spec.errors import Unavailable

AT_ONCE = 2
"""Faults that last: as many at a time, so that somebody always works."""
PAST_LEASE = (1.0, 1.5)
"""How long a process stands still, in leases."""

_LATELY = text("""
    select jobs.id, fence, jobs.pool, workers.name as worker from jobs left join workers on workers.id = worker_id
    where fence > 0 order by jobs.updated_at desc limit 20
""")


@dataclass
class Lasting:
    """A fault that stays for a while: how long, or until when, and how it ends."""

    what: str
    seconds: float
    end: Callable[[], None]
    or_when: Callable[[], bool] = lambda: False
    began: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        return time.monotonic() > self.began + self.seconds or self.or_when()


class Faults:
    """`step` now and then; `heal` at the end. `only` names the faults to choose from; all if not given.

    Whatever has happened least comes next, so that each happens before any happens twice, as far as it can. `done`
    counts what hit something, and lasted for as long as it was to.
    """

    def __init__(self, house: House, seed: int, *, only: tuple[str, ...] = ()) -> None:
        self._house = house
        self._random = Random(seed)  # noqa: S311  # to be the same again, not to be secret
        self._lasting: list[tuple[str, Lasting]] = []
        self._healed = False
        self._began = time.monotonic()
        self._next_at = self._began
        every: dict[str, Callable[[], str | Lasting | None]] = {
            "kill a worker": lambda: self._kill("worker"),
            "kill a scheduler": lambda: self._kill("scheduler"),
            "kill the API": lambda: self._kill("api"),
            "kill a runner": self._kill_a_runner,
            "freeze a worker": self._freeze_a_worker,
            "freeze a scheduler": lambda: self._frozen(self._someone("scheduler"), self._past_lease()),
            "freeze the API": lambda: self._frozen(self._someone("api"), self._past_lease()),
            "freeze a runner": self._freeze_a_runner,
            "drain a worker": self._drain,
            **{f"kill {server.name}": partial(self._restart, server, kill=True) for server in house.stack.servers},
            **{f"stop {server.name}": partial(self._restart, server, kill=False) for server in house.stack.servers},
            "double bells": self._double_bells,
            "lose bells": self._lose_bells,
            "mute a scheduler": self._mute_a_scheduler,
            "cut a worker off": self._cut_a_worker_off,
        }
        self._faults = {name: fault for name, fault in every.items() if not only or name in only}
        self.done: dict[str, int] = dict.fromkeys(self._faults, 0)

    @property
    def wanting(self) -> bool:
        """Whether one of them is yet to happen."""
        return not self._healed and not all(self.done.values())

    def step(self) -> None:
        """End what has lasted long enough, start again what ended, and now and then do harm."""
        for name, fault in [(name, fault) for name, fault in self._lasting if fault.due]:
            self.done[name] += self._ended(name, fault)
        self._house.revive()
        if time.monotonic() >= self._next_at:
            shuffled = self._random.sample(list(self._faults), len(self._faults))
            for name in sorted(shuffled, key=self._begun):
                if self._happens(name):
                    break
            self._next_at = time.monotonic() + self._random.uniform(0.1, 1.2)

    def heal(self) -> None:
        """End what lasts."""
        self._healed = True
        for name, fault in list(self._lasting):
            self._ended(name, fault)
        self._house.revive()

    def _happens(self, name: str) -> bool:
        """False where there is nothing to hit."""
        fault = self._faults[name]()
        if fault is None:
            return False
        if isinstance(fault, Lasting):
            self._lasting.append((name, fault))
            self._say(fault.what)
        else:
            self.done[name] += 1
            self._say(fault)
        return True

    def _begun(self, name: str) -> int:
        """How often, without what hit nobody in the end."""
        return self.done[name] + sum(name == lasting for lasting, _ in self._lasting)

    def _ended(self, name: str, fault: Lasting) -> bool:
        """False where what was hit is gone."""
        self._lasting.remove((name, fault))
        try:
            fault.end()
        except psutil.NoSuchProcess:
            self._say(f"{fault.what}: gone")
            return False
        self._say(f"{fault.what}: over")
        return True

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def _someone(self, role: Role) -> Resident | None:
        awake = self._awake(role)
        return self._random.choice(awake) if awake else None

    def _awake(self, role: Role) -> list[Resident]:
        """At work, and with no fault that lasts."""
        return [resident for resident in self._house.at_work(role) if not self._lasts(resident.name)]

    def _lasts(self, name: str) -> bool:
        return any(name in fault.what.split() for _, fault in self._lasting)

    def _past_lease(self) -> float:
        return self._random.uniform(*PAST_LEASE) * LEASE_S

    def _kill(self, role: Role) -> str | None:
        victim = self._someone(role)
        if victim is None or victim.process is None:
            return None
        victim.process.kill()
        victim.process.wait(10)
        return f"{victim.name} killed"

    def _kill_a_runner(self) -> str | None:
        worker = self._someone("worker")
        runner = self._house.runner_of(worker) if worker else None
        if worker is None or runner is None:
            return None
        with suppress(psutil.NoSuchProcess):
            runner.kill()
            return f"{worker.name}'s runner killed"
        return None

    def _freeze_a_worker(self) -> Lasting | None:
        """Until its job runs elsewhere: the moment at which a holder of old does the most harm."""
        worker = self._someone("worker")
        held = self._house.held_by(worker) if worker else None
        if held is None:
            return self._frozen(worker, self._past_lease())
        return self._frozen(worker, 4 * LEASE_S, lambda: self._house.is_another_s(*held))

    def _frozen(
        self, who: Resident | None, seconds: float, or_when: Callable[[], bool] = lambda: False
    ) -> Lasting | None:
        if who is None or who.process is None:
            return None
        return self._stands_still(f"{who.name} frozen", who.process, seconds, or_when)

    def _freeze_a_runner(self) -> Lasting | None:
        busy = [(one, runner) for one in self._awake("worker") if (runner := self._house.runner_of(one)) is not None]
        if not busy:
            return None
        worker, runner = self._random.choice(busy)
        return self._stands_still(f"{worker.name}'s runner frozen", runner, self._past_lease())

    def _stands_still(
        self, what: str, process: psutil.Process, seconds: float, or_when: Callable[[], bool] = lambda: False
    ) -> Lasting | None:
        if len(self._lasting) >= AT_ONCE:
            return None
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            return Lasting(what, seconds, process.resume, or_when)
        return None

    def _drain(self) -> str | None:
        worker = self._someone("worker")
        if worker is None or worker.process is None:
            return None
        worker.process.send_signal(signal.SIGTERM)
        return f"{worker.name} told to drain"

    def _restart(self, server: Server, *, kill: bool) -> str:
        self._say(f"{server.name} {'killed' if kill else 'stopped'}")
        self._house.restart(server, kill=kill, away_s=self._random.uniform(0, 1.5))
        return f"{server.name} is back"

    def _double_bells(self) -> str | None:
        """Of jobs to which something happened lately: for this fence and for the one before, to two workers."""
        with suppress(DBAPIError, Unavailable):
            with self._house.fleet.sessions() as session:
                rows = session.execute(_LATELY).all()
            for row in rows:
                astray = f"w{self._random.randrange(WORKERS)}"
                for fence, worker in (
                    (row.fence, row.worker or astray),
                    (row.fence - 1, row.worker or astray),
                    (row.fence, astray),
                ):
                    ring(self._house.fleet.app, Bell(row.id, fence, worker, row.pool))
            return f"{3 * len(rows)} bells rung again" if rows else None
        return None

    def _lose_bells(self) -> str | None:
        with suppress(redis.RedisError), redis.Redis.from_url(self._house.stack.endpoints().redis_url) as client:
            client.flushall()
            return "Redis emptied"
        return None

    def _mute_a_scheduler(self) -> Lasting | None:
        """Its bells reach nobody: they are late, or lost."""
        return self._behind(self._house.proxies[0], "s1 mute")

    def _cut_a_worker_off(self) -> Lasting | None:
        """From Postgres, in the middle of whatever it says."""
        return self._behind(self._house.proxies[1], "w0 cut off")

    def _behind(self, proxy: Proxy, what: str) -> Lasting | None:
        if self._lasts(what.split()[0]) or len(self._lasting) >= AT_ONCE:
            return None
        self._random.choice([proxy.hang, proxy.cut])()
        return Lasting(what, self._random.uniform(0.2, 2) * LEASE_S, proxy.mend)

"""What may go wrong, one fault after another from a seed; several may last side by side."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import get_args

import psutil
import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.chaos.house import LEASE_S, House, Resident, Role
from tests.support.proxy import Proxy

from clew_lab.jobs.broker import ring
from clew_lab.jobs.dispatch import Bell
from clew_spec.errors import Unavailable

AT_ONCE = 2
"""Faults that last: as many at a time, so that somebody always works."""


@dataclass
class Lasting:
    """A fault that is still there, when it ends, and how."""

    what: str
    until: float
    or_when: Callable[[], bool]
    end: Callable[[], None]


class Faults:
    """`step` now and then; `heal` at the end. `only` names the faults to choose from; all if not given."""

    def __init__(self, house: House, seed: int, *, only: tuple[str, ...] = ()) -> None:
        self._house = house
        self._random = Random(seed)  # noqa: S311  # to be the same again, not to be secret
        self._lasting: list[Lasting] = []
        self._began = time.monotonic()
        self._next_at = self._began
        every: dict[str, Callable[[], str | None]] = {
            "kill": self._kill,
            "kill a runner": self._kill_a_runner,
            "freeze": self._freeze,
            "freeze a worker": self._freeze_a_worker,
            "freeze a runner": self._freeze_a_runner,
            "drain": self._drain,
            "restart": self._restart,
            "double bells": self._double_bells,
            "lose bells": self._lose_bells,
            "mute a scheduler": self._mute_a_scheduler,
            "cut a worker off": self._cut_a_worker_off,
        }
        self._faults = {name: fault for name, fault in every.items() if not only or name in only}
        self.done: dict[str, int] = dict.fromkeys(self._faults, 0)

    def step(self) -> None:
        """End what has lasted long enough, start again what ended, and now and then do harm."""
        now = time.monotonic()
        for fault in [fault for fault in self._lasting if now > fault.until or fault.or_when()]:
            self._end(fault)
        self._house.revive()
        if now >= self._next_at:
            name = self._random.choice(list(self._faults))
            said = self._faults[name]()
            if said is not None:
                self.done[name] += 1
                self._say(said)
            self._next_at = time.monotonic() + self._random.uniform(0.1, 1.2)

    def heal(self) -> None:
        """End what lasts."""
        for fault in list(self._lasting):
            self._end(fault)
        self._house.revive()

    def _end(self, fault: Lasting) -> None:
        self._lasting.remove(fault)
        with suppress(psutil.NoSuchProcess):
            fault.end()
        self._say(f"{fault.what}: over")

    def _last(
        self, what: str, seconds: float, end: Callable[[], None], or_when: Callable[[], bool] = lambda: False
    ) -> str:
        self._lasting.append(Lasting(what, time.monotonic() + seconds, or_when, end))
        return what

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def _someone(self, *roles: Role) -> Resident | None:
        """Alive, and not frozen."""
        there = [resident for role in roles or get_args(Role) for resident in self._house.alive(role)]
        awake = [resident for resident in there if not self._lasts(resident.name)]
        return self._random.choice(awake) if awake else None

    def _lasts(self, name: str) -> bool:
        return any(name in fault.what.split() for fault in self._lasting)

    def _kill(self) -> str | None:
        victim = self._someone()
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

    def _freeze(self) -> str | None:
        return self._frozen(self._someone("scheduler", "api"), self._random.uniform(0.3, 1.5) * LEASE_S)

    def _freeze_a_worker(self) -> str | None:
        """Until its job runs elsewhere: the moment at which a holder of old does the most harm."""
        worker = self._someone("worker")
        held = self._house.held_by(worker) if worker else None
        if held is None:
            return self._frozen(worker, self._random.uniform(0.3, 1.5) * LEASE_S)
        return self._frozen(worker, 4 * LEASE_S, lambda: self._house.is_another_s(*held))

    def _frozen(self, who: Resident | None, seconds: float, or_when: Callable[[], bool] = lambda: False) -> str | None:
        if who is None or who.process is None or len(self._lasting) >= AT_ONCE:
            return None
        with suppress(psutil.NoSuchProcess):
            who.process.suspend()
        return self._last(f"{who.name} frozen", seconds, who.process.resume, or_when)

    def _freeze_a_runner(self) -> str | None:
        worker = self._someone("worker")
        runner = self._house.runner_of(worker) if worker else None
        if worker is None or runner is None or len(self._lasting) >= AT_ONCE:
            return None
        with suppress(psutil.NoSuchProcess):
            runner.suspend()
        return self._last(f"{worker.name}'s runner frozen", self._random.uniform(0.1, 1) * LEASE_S, runner.resume)

    def _drain(self) -> str | None:
        worker = self._someone("worker")
        if worker is None or worker.process is None:
            return None
        worker.process.send_signal(signal.SIGTERM)
        return f"{worker.name} told to drain"

    def _restart(self) -> str | None:
        server = self._random.choice(self._house.stack.servers)
        kill = self._random.random() < 0.5
        self._say(f"{server.name} {'killed' if kill else 'stopped'}")
        self._house.restart(server, kill=kill, away_s=self._random.uniform(0, 1.5))
        return f"{server.name} is back"

    def _double_bells(self) -> str | None:
        """Of jobs to which something happened lately: for this fence and for the one before."""
        with suppress(DBAPIError, Unavailable):
            with self._house.fleet.sessions() as session:
                jobs = session.execute(
                    text("select id, fence from jobs where fence > 0 order by updated_at desc limit 20")
                )
                rows = jobs.all()
            for row in rows:
                for fence in (row.fence, row.fence - 1, row.fence):
                    ring(self._house.fleet.app, Bell(row.id, fence, "train"))
            return f"{3 * len(rows)} bells rung again"
        return None

    def _lose_bells(self) -> str | None:
        with suppress(redis.RedisError), redis.Redis.from_url(self._house.stack.endpoints().redis_url) as client:
            client.flushall()
            return "Redis emptied"
        return None

    def _mute_a_scheduler(self) -> str | None:
        """Its bells reach nobody: they are late, or lost."""
        return self._behind(self._house.proxies[0], "s1 mute")

    def _cut_a_worker_off(self) -> str | None:
        """From Postgres, in the middle of whatever it says."""
        return self._behind(self._house.proxies[1], "w0 cut off")

    def _behind(self, proxy: Proxy, what: str) -> str | None:
        if self._lasts(what.split()[0]) or len(self._lasting) >= AT_ONCE:
            return None
        self._random.choice([proxy.hang, proxy.cut])()
        return self._last(what, self._random.uniform(0.2, 2) * LEASE_S, proxy.mend)

"""A whole lab of real processes on servers of its own: whatever ends is started again, as whoever runs a lab would."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import httpx2
import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.clew_api.seeds import Tenant, World
from tests.support.fleet import FAKE_RUNNER, TENTH, Fleet
from tests.support.proxy import Proxy, through_proxy
from tests.support.servers import lab_on, migrated, temporary_stack

from clew_local.servers import Stack
from clew_local.servers.stack import Server
from clew_spec.jobs import JobState

Role = Literal["worker", "scheduler", "api"]
LEASE_S = 4.0
SHORT = TENTH | {
    "dispatch_lease_s": 2,
    "running_lease_s": LEASE_S,
    "beat_s": 0.5,
    "fence_after_s": 2.5,
    "kill_grace_s": 0.5,
    "max_lost": 10_000,  # that jobs end in success whatever happens, and any other end is a finding
    "keep_leftovers_s": 20,
}
WORKERS = 4
READY_S = 60.0


@dataclass
class Resident:
    """A process that is kept alive."""

    role: Role
    name: str
    command: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    process: psutil.Popen | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class House:
    """Two schedulers, an API and workers, some of them behind a proxy, some with a clock that stops with them."""

    def __init__(
        self, stack: Stack, folder: Path, proxies: Sequence[tuple[Proxy, dict[str, str]]], changes: str
    ) -> None:
        self.stack = stack
        lab = lab_on(stack, folder, **SHORT)
        migrated(lab.settings.database_url.get_secret_value())
        logs = folder / "logs"
        logs.mkdir()
        self.fleet = Fleet(lab, logs)
        self.fleet.store.create_bucket()
        world = World(self.fleet.sessions, lab.settings, folder)
        self.tenant: Tenant = world.tenant("chaos")
        has_a_model(world, self.tenant)
        self.url = f"http://{lab.settings.api_host}:{lab.settings.api_port}/api/v1"
        self.proxies = [proxy for proxy, _ in proxies]
        environs = [environ for _, environ in proxies]
        self.residents = [
            Resident("api", "api", ("clew_api",)),
            Resident("scheduler", "s0", ("clew_scheduler",)),
            Resident("scheduler", "s1", ("clew_scheduler",), environs[0]),
            *(self._worker(number, changes, environs[1] if number == 0 else {}) for number in range(WORKERS)),
        ]

    @staticmethod
    def _worker(number: int, changes: str, environ: dict[str, str]) -> Resident:
        name = f"w{number}"
        words = ("clew_worker.supervisor", "--pool", "train", "--name", name)
        world = ",".join(filter(None, [changes, "suspended" if number % 2 else ""]))
        return Resident("worker", name, ("tests.support.mutant", world, *words) if world else words, environ)

    def revive(self) -> None:
        """Start whatever has ended."""
        for resident in self.residents:
            if not resident.alive:
                module, *words = resident.command
                resident.process = self.fleet.start(module, *words, **resident.environ)

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            if self._answers():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API did not answer within {READY_S:.0f} s\n{self.fleet.logs()}")
            time.sleep(0.1)

    def at_work(self, role: Role) -> list[Resident]:
        """Those that do something, not those that are starting yet: a fault hits nothing there, and takes long."""
        alive = [resident for resident in self.residents if resident.role == role and resident.alive]
        if role == "worker":
            beating = self._beating()
            return [resident for resident in alive if resident.name in beating]
        return alive if role == "scheduler" or self._answers() else []

    def _beating(self) -> set[str]:
        fresh = "select name from workers where beat_at > now() - make_interval(secs => :seconds) and not draining"
        with suppress(DBAPIError), self.fleet.sessions() as session:
            return set(session.scalars(text(fresh), {"seconds": LEASE_S / 2}))
        return set()

    def _answers(self) -> bool:
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/health/live", timeout=LEASE_S / 4).status_code == 200
        return False

    def runner_of(self, worker: Resident) -> psutil.Process | None:
        if worker.process is not None:
            with suppress(psutil.Error):
                for child in worker.process.children(recursive=True):
                    if str(FAKE_RUNNER) in child.cmdline():
                        return child
        return None

    def held_by(self, worker: Resident) -> tuple[UUID, int] | None:
        """The job that runs on the worker, and its fence; None where there is none, or Postgres is away."""
        held = (
            "select jobs.id, fence from jobs join workers on workers.id = worker_id "
            "where state = 'running' and workers.name = :name"
        )
        with suppress(DBAPIError), self.fleet.sessions() as session:
            row = session.execute(text(held), {"name": worker.name}).first()
            return (row.id, row.fence) if row is not None else None
        return None

    def is_another_s(self, job_id: UUID, fence: int) -> bool:
        """Whether the job runs under a later fence now."""
        later = "select exists (select from jobs where id = :id and fence > :fence and state = 'running')"
        with suppress(DBAPIError), self.fleet.sessions() as session:
            return bool(session.scalar(text(later), {"id": job_id, "fence": fence}))
        return False

    def ended(self) -> int:
        """How many submitted jobs are in a terminal state; 0 where Postgres is away."""
        count = "select count(*) from jobs where finished_at is not null and idempotency_key is not null"
        with suppress(DBAPIError), self.fleet.sessions() as session:
            return int(session.scalar(text(count)) or 0)
        return 0

    def restart(self, server: Server, *, kill: bool, away_s: float) -> None:
        """End one of the three servers, by SIGKILL or in good order, and start it again."""
        assert server.child.pid is not None
        if kill:
            tree = [psutil.Process(server.child.pid), *psutil.Process(server.child.pid).children(recursive=True)]
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(tree, timeout=10)
        server.child.stop()
        server.clean()
        time.sleep(away_s)
        server.launch()
        self.stack.wait()


def has_a_model(world: World, tenant: Tenant) -> None:
    """Of a job that the workers do not take for one of theirs."""
    world.model(tenant, job=world.job(tenant, state=JobState.SUCCEEDED, finished_at=datetime.now(UTC)))


@contextmanager
def house(*, changes: str = "") -> Iterator[House]:
    """changes: of `tests.support.mutant`, for every worker."""
    with ExitStack() as stack:
        servers = stack.enter_context(contextmanager(temporary_stack)(durable=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clew-chaos-")))
        where = servers.endpoints()
        proxies = []
        for name, url in (("CLEW_REDIS_URL", where.redis_url), ("CLEW_DATABASE_URL", where.database_url)):
            proxy, detour = stack.enter_context(through_proxy(url))
            proxies.append((proxy, {name: detour}))
        built = House(servers, folder, proxies, changes)
        stack.callback(built.fleet.stop)
        built.revive()
        built.wait_until_it_answers()
        yield built

"""Postgres has no room left: what is asked for is refused, what was accepted waits, and all goes on once there is."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import httpx2
import psutil
import psycopg
import pytest
from tests.chaos.house import LEASE_S, SHORT, has_a_model
from tests.chaos.ledger import Asked, Ledger, account
from tests.chaos.run import request
from tests.clew_api.seeds import World
from tests.support import small_disk
from tests.support.fleet import wait_for
from tests.support.servers import lab_on

from clew_lab.catalogue.engine import libpq_url, make_engine, session_factory
from clew_lab.storage import Store
from clew_local.servers import Stack
from clew_local.state import load
from clew_worker.supervisor.process import die_with_parent

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("small_disks")]

ROOM = 192 * 2**20
ANSWERED_S = 15.0
"""Within this time everything is answered, well or not."""


class Cramped:
    """A lab that `clew up` keeps, with a small disk for Postgres; and somebody who asks it for jobs, one by one."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "lab"
        stack = Stack(self.data, environ={})
        self._lab = lab_on(stack, folder, **SHORT)
        self._folder = folder
        disk = self.data / "postgres"
        disk.mkdir()
        servers = stack.endpoints().environment()
        given = {name: value for name, value in self._lab.environ.items() if name not in servers}
        port = self._lab.settings.api_port
        with (folder / "lab.log").open("wb") as log:
            self._process = psutil.Popen(
                [
                    *(sys.executable, "-m", small_disk.__name__, str(disk), str(ROOM)),
                    *(sys.executable, "-m", "clew_local", str(self.data), "--port", str(port)),
                ],
                env=os.environ | given,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )
        self._ballast = Path(f"/proc/{self._process.pid}/root{disk}/ballast")  # only the lab sees that disk
        self._database_url = self._lab.settings.database_url.get_secret_value()
        self._engine = make_engine(self._database_url)
        self.sessions = session_factory(self._engine)
        self.store = Store.of(self._lab.settings)
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=ANSWERED_S)
        self.asked: list[Asked] = []

    def begin(self) -> None:
        """When it is ready: a project with a model, which is asked for jobs."""
        self.wait(self.is_ready)
        world = World(self.sessions, self._lab.settings, self._folder)
        tenant = world.tenant("chaos")
        has_a_model(world, tenant)
        self._client.headers |= tenant.auth
        self.project_id = tenant.project.id

    def ask(self, *words: str, steps: int = 3) -> httpx2.Response:
        """For a job: for the same again where the last answer was no."""
        key = {"Idempotency-Key": f"job-{len(self.asked)}"}
        answer = self._client.post("/jobs", json=request(f"steps_{steps}", *words), headers=key)
        if answer.status_code == 202:
            self.asked.append(Asked(steps, {UUID(answer.json()["id"])}))
        return answer

    def is_ready(self) -> bool:
        with suppress(httpx2.ConnectError):
            return self._client.get("/health/ready").status_code == 200
        return False

    def health(self) -> tuple[int, bool]:
        """The status of the whole, and whether the database is well."""
        answer = self._client.get("/health")
        return answer.status_code, answer.json()["components"]["database"]["ok"]

    def read(self) -> int:
        """The status of a job that is looked at."""
        return self._client.get(f"/jobs/{min(self.asked[0].ids)}").status_code

    def ledger(self) -> Ledger:
        return account(self.sessions, self.store, self.asked, self.project_id)

    def fill(self) -> None:
        """What room there is, also what became free since the last time."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (2**20, 2**12):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def make_room(self) -> None:
        self._ballast.unlink()

    def write_ahead(self) -> None:
        """Use up the files that Postgres has for its log: it ends itself where it can make no more."""
        with suppress(psycopg.OperationalError), psycopg.connect(libpq_url(self._database_url), autocommit=True) as one:
            while True:
                one.execute("select pg_switch_wal()")
                one.execute("select pg_logical_emit_message(true, '', '')")

    def wait(self, what: Callable[[], bool]) -> None:
        wait_for(what, why=self._logs)

    def _logs(self) -> str:
        logs = [self._folder / "lab.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in logs)

    def close(self) -> None:
        self._client.close()
        self._engine.dispose()
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def cramped() -> Iterator[Cramped]:
    with tempfile.TemporaryDirectory(prefix="clew-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # Postgres has to pass, also as `nobody`
        lab = Cramped(folder)
        try:
            lab.begin()
            yield lab
        finally:
            lab.close()


def is_refusal(answer: httpx2.Response, detail: str) -> bool:
    """Whether it says that the same may be asked again, and why not now."""
    said = (answer.status_code, answer.headers["Content-Type"], "Retry-After" in answer.headers)
    return said == (503, "application/problem+json", True) and answer.json()["detail"] == detail


@pytest.mark.timeout(400)
def test_postgres_without_room_refuses_and_keeps_what_was_accepted(cramped: Cramped) -> None:
    cramped.ask("ms_200", "every_5", steps=40)
    for _ in range(4):
        assert cramped.ask().status_code == 202
    cramped.fill()
    full_at = time.monotonic()
    refused: list[httpx2.Response] = []
    while not refused or time.monotonic() < full_at + 2 * LEASE_S:
        answer = cramped.ask()
        if answer.status_code != 202:  # what is in the tables has room yet, here and there
            refused.append(answer)
        assert cramped.read() == 200
        assert time.monotonic() < full_at + 60, "the disk is full, and all is accepted"
        cramped.fill()
        time.sleep(0.2)
    assert all(is_refusal(answer, "the database has no room left") for answer in refused)

    cramped.write_ahead()
    cramped.wait(lambda: cramped.health() == (503, False))
    refused = [cramped.ask() for _ in range(3)]
    assert all(is_refusal(answer, "the database does not answer") for answer in refused)

    cramped.make_room()
    cramped.wait(cramped.is_ready)
    cramped.wait(lambda: cramped.ask().status_code == 202)
    cramped.wait(lambda: cramped.ledger().terminal == len(cramped.asked))
    ledger = cramped.ledger()
    assert ledger.clean, ledger.findings
    state = load(cramped.data)
    assert state is not None
    assert {part.name for part in state.parts if part.restarts} == {"postgres"}

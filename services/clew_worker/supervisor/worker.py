"""What lives as long as the process: connections, the runner that is warm, the worker's own beat."""

import fcntl
import os
import shutil
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.tables import Worker as Row
from clew_lab.jobs import workers
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.errors import Conflict, Unavailable
from clew_spec.jobs import Pool
from clew_worker.supervisor import monitoring
from clew_worker.supervisor.exits import DRAINED, NAME_TAKEN
from clew_worker.supervisor.memory import cpus, gpu_uuid, machine, memory_bytes
from clew_worker.supervisor.runners import Runners

log = structlog.get_logger("clew_worker")
ONE_NAME = "give each worker of the lab a name of its own: --name"


class Worker:
    """One slot of a pool. `draining` is set when it shall take no more jobs and give back the one it has."""

    def __init__(self, settings: Settings, pool: Pool, name: str, device: str = "cpu") -> None:
        self.settings = settings
        self.pool: Pool = pool
        self.name = name
        self.device = device
        self.draining = threading.Event()
        self.folder = settings.data_dir / "workers" / name
        self.store = Store.of(settings)
        url = settings.database_url.get_secret_value()
        self._engine = make_engine(url)
        # Beats have connections of their own, and give up early enough to try again before the lease is lost.
        patience = settings.fence_after_s / 3
        self._lease_engine = make_engine(url, statement_s=patience, connect_s=patience, pool_size=2)
        self.sessions = session_factory(self._engine)
        self.lease_sessions = session_factory(self._lease_engine)
        self.runners = Runners(settings, pool, device, self.folder / "runner")
        self.id: UUID | None = None
        self.left_with: int | None = None
        """The exit code, where the worker ends by itself."""
        self._since: datetime | None = None
        self._lock: IO[bytes] | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Clear what an earlier process left, make sure of the bucket, register, begin to beat.

        Raises `Conflict` where a living worker has the folder.
        """
        self._lock = locked(self.folder)
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        (self.folder / "cache").mkdir(parents=True, exist_ok=True)
        try:
            self.store.create_bucket()
        except Unavailable as error:  # uploads will wait for it
            log.warning("store_unavailable", error=error.detail)
        while self.id is None:
            try:
                self._register()
            except DBAPIError as error:
                log.warning("not_registered", error=type(error.orig).__name__)
                time.sleep(self.settings.poll_s)
        threading.Thread(target=self._beat, name="worker-beat", daemon=True).start()

    def drain(self) -> None:
        """Take no more jobs; the running one is preempted. Returns at once."""
        self.draining.set()
        threading.Thread(target=self._tell_draining, name="drain", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self.runners.close()
        self._tell_draining()
        self._engine.dispose()
        self._lease_engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _register(self) -> None:
        with self.sessions.begin() as session:
            self.id = workers.register(
                session,
                self.name,
                self.pool,
                device=self.device,
                memory_bytes=memory_bytes(self.device),
                ram_bytes=memory_bytes("cpu"),
                cpus=cpus(),
                machine=machine(self.settings.machine),
                gpu_uuid=gpu_uuid(self.device),
            )
            self._since = session.get_one(Row, self.id, populate_existing=True).started_at
        log.info("registered", worker=self.name, pool=self.pool, device=self.device)

    def _beat(self) -> None:
        while not self._closed.wait(self.settings.beat_s):
            try:
                with self.lease_sessions.begin() as session:
                    asked = workers.beat(session, self.id, self._since) if self.id and self._since else False
                if asked and not self.draining.is_set():
                    log.info("asked_to_drain")
                    self._leave(DRAINED)
            except Conflict as error:
                log.error("name_taken", error=str(error), hint=ONE_NAME)
                self._leave(NAME_TAKEN)
                return
            except DBAPIError as error:
                monitoring.BEATS_MISSED.inc()
                log.warning("worker_beat_missed", error=type(error.orig).__name__)

    def _leave(self, code: int) -> None:
        """End as SIGTERM does: the running job is given back, then the process exits."""
        self.left_with = code
        self.draining.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell_draining(self) -> None:
        try:
            with self.lease_sessions.begin() as session:
                if self.id is not None:
                    workers.drain(session, self.id, self._since)
        except DBAPIError as error:  # no beat will follow, which says the same a little later
            log.warning("drain_not_told", error=type(error.orig).__name__)


def locked(folder: Path) -> IO[bytes]:
    """Take the folder until the file is closed, or the process gone. Raises `Conflict` where another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Conflict(f"another worker named {folder.name!r} runs on this machine", hint=ONE_NAME) from error
    return file


def trim(cache: Path, limit: int) -> None:
    """Delete what was used longest ago until at most `limit` bytes are left. Called between jobs."""
    files = sorted((path for path in cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in files) - limit
    for path in files:
        if excess <= 0:
            break
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)

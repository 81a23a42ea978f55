"""What lives as long as the process: connections, the runner that is warm, the worker's own beat."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.jobs import workers
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.errors import Unavailable
from clew_spec.jobs import Pool
from clew_worker.supervisor.runners import Runners

log = structlog.get_logger("clew_worker")


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
        self._closed = threading.Event()

    def start(self) -> None:
        """Clear what an earlier process left, make sure of the bucket, register, begin to beat."""
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
                log.warning("not_registered", error=type(error).__name__)
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

    def _register(self) -> None:
        with self.sessions.begin() as session:
            memory = memory_bytes(self.device)
            self.id = workers.register(session, self.name, self.pool, device=self.device, memory_bytes=memory)
        log.info("registered", worker=self.name, pool=self.pool, device=self.device)

    def _beat(self) -> None:
        while not self._closed.wait(self.settings.beat_s):
            try:
                with self.lease_sessions.begin() as session:
                    asked = workers.beat(session, self.id) if self.id else False
                if asked and not self.draining.is_set():
                    log.info("asked_to_drain")
                    self.draining.set()
            except DBAPIError as error:
                log.warning("worker_beat_missed", error=type(error).__name__)

    def _tell_draining(self) -> None:
        try:
            with self.lease_sessions.begin() as session:
                if self.id is not None:
                    workers.drain(session, self.id)
        except DBAPIError as error:  # no beat will follow, which says the same a little later
            log.warning("drain_not_told", error=type(error).__name__)


def memory_bytes(device: str) -> int:
    """Of the GPU, else of the machine; 0 where it cannot be told."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={index or 0}"]
    try:
        return int(subprocess.check_output(query, text=True, timeout=10).split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0


def trim(cache: Path, limit: int) -> None:
    """Delete what was used longest ago until at most `limit` bytes are left. Called between jobs."""
    files = sorted((path for path in cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in files) - limit
    for path in files:
        if excess <= 0:
            break
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)

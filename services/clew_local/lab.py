"""The whole lab on one machine: servers, schema, first key, services; kept running until it is told to stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from types import FrameType
from urllib.parse import urlsplit

from clew_local import credentials
from clew_local.files import bound_log
from clew_local.servers import Stack
from clew_local.services import POOLS, Api, Service, Worker, drain_seconds, environment, under_role
from clew_local.state import LabState, PartState, load
from clew_local.supervision import State, Watch
from clew_spec.errors import Unavailable

API_PORT = 8420
KEY_NAME = "admin"
START_SECONDS = 120.0
_DEATHS_WHILE_STARTING = 3
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.1
_LOGS_SECONDS = 60.0


class Lab:
    """One data folder and everything that runs on it.

    `say` gets one line for each thing that happens; it never gets a key.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        device: str = "cpu",
        say: Callable[[str], None],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._given = dict(os.environ if environ is None else environ)
        self.data = data.absolute()
        self.stack = Stack(self.data, environ=self._given)
        if port is not None:
            self.stack.ports.put("api", port)
        self.port = self.stack.ports.prefer("api", API_PORT)
        self.url = f"http://127.0.0.1:{self.port}"
        self._device = device
        self._say = say
        previous = load(self.data)
        self._key_is_owed = previous is not None and previous.key_is_new and not previous.has_run
        self._state = LabState("starting", url=self.url)
        self._services: list[Service] = []
        self._watches: list[Watch] = []

    def run(self, on_ready: Callable[[bool], None]) -> None:
        """Start all, call `on_ready(key_is_new)`, supervise until SIGINT, SIGTERM or SIGHUP, stop all.

        Raises what kept it from starting, after stopping what did start. To be called from the main thread: the
        children die with the thread that started them.
        """
        self.stack.lock()
        with _signals_interrupt():
            try:
                self._start()
                on_ready(self._state.key_is_new)
                self._supervise()
            except KeyboardInterrupt:
                _ignore_signals()
                self._say("stopping")
                self._stop("stopped")
            except BaseException as error:
                _ignore_signals()
                self._state.detail = str(error)
                self._stop("failed")
                raise

    def _start(self) -> None:
        self._save("starting")
        self.stack.ports.require_free("api")
        began = time.monotonic()
        self.stack.start()
        names = ", ".join(server.name for server in self.stack.servers) or "none of our own"
        self._say(f"servers ready in {time.monotonic() - began:.1f} s: {names}")
        environ = environment(
            self.data,
            self._given,
            self.stack.endpoints().environment(),
            secret=self._given.get("CLEW_SECRET_KEY") or self.stack.secrets.get("secret_key"),
            port=self.port,
        )
        passwords = self.stack.role_passwords()
        self._prepare(environ | self.stack.role_variables())
        self._state.drain_s = drain_seconds(environ)
        self._services = [
            Api(self.data, under_role(environ, "api", passwords), self.port),
            Service("scheduler", self.data, under_role(environ, "scheduler", passwords), "clew_scheduler"),
            *(Worker(pool, self.data, under_role(environ, "worker", passwords), self._device) for pool in POOLS),
        ]
        self._watches = [Watch(server, self._say, State.READY) for server in self.stack.servers]
        for service in self._services:
            service.launch()
            self._watches.append(Watch(service, self._say))
        self._wait_for_services()
        self._state.has_run = True
        self._save("running")

    def _wait_for_services(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not all(watch.state is State.READY for watch in self._watches):
            if self._step():
                self._save("starting")
            for watch in self._watches:
                late = time.monotonic() > deadline and watch.state is not State.READY
                if late or watch.deaths >= _DEATHS_WHILE_STARTING:
                    raise Unavailable(f"{watch.part.name} does not start:\n{watch.part.child.last_words()}")
            time.sleep(_POLL_SECONDS)

    def _supervise(self) -> None:
        bound_at = 0.0
        while True:
            if self._step():
                self._save("running")
            if time.monotonic() > bound_at:
                for log in (self.data / "logs").glob("*.log"):
                    bound_log(log)
                bound_at = time.monotonic() + _LOGS_SECONDS
            time.sleep(_POLL_SECONDS)

    def _step(self) -> bool:
        now = time.monotonic()
        changed = [watch.step(now) for watch in self._watches]
        return any(changed)

    def _stop(self, final: str) -> None:
        """The services together, which do not need each other to end, then the servers under them."""
        self._save("stopping")
        asked = time.monotonic()
        for service in reversed(self._services):
            service.child.ask_to_stop()
        if self._state.draining:
            self._say(self._state.draining)
        waiting = self._services
        while left := [service for service in waiting if service.child.pid is not None]:
            if len(left) < len(waiting):
                self._save("stopping")
            waiting = left
            for service in waiting:
                if time.monotonic() - asked > service.stop_seconds:
                    service.child.kill()
            time.sleep(_POLL_SECONDS)
        for service in self._services:
            service.child.stop()
        self.stack.stop()
        self._watches = []
        self._save(final)

    def _prepare(self, environ: Mapping[str, str]) -> None:
        """The schema, the first project and its admin key; where the only copy of that key was lost, another one."""
        known = credentials.stored_key(self.data)
        names = [KEY_NAME]
        if known is None and "CLEW_DATABASE_URL" not in self._given:
            names.append(f"{KEY_NAME}-{token_hex(3)}")
        key = json.loads(self._once(environ, "clew_local.prepare", *names))["key"]
        self._say("database schema is current")
        self._state.key_is_new = key is not None or self._key_is_owed
        if key or known:
            credentials.keep(self.data, self.url, key or known or "")

    def _once(self, environ: Mapping[str, str], module: str, *arguments: str) -> str:
        """Run a module to its end and return what it printed. Raises Unavailable where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], env=dict(environ), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"{module} failed:\n{done.stderr.strip()[-4000:]}")
        return done.stdout

    def _save(self, state: str) -> None:
        self._state.state = state
        self._state.parts = [*self._external(), *map(_part_state, self._watches)]
        self._state.save(self.data)

    def _external(self) -> list[PartState]:
        where = self.stack.endpoints()
        urls = {"CLEW_DATABASE_URL": where.database_url, "CLEW_REDIS_URL": where.redis_url}
        urls["CLEW_S3_ENDPOINT"] = f"s3://{where.s3_endpoint}"
        names = {"CLEW_DATABASE_URL": "database", "CLEW_REDIS_URL": "redis", "CLEW_S3_ENDPOINT": "objects"}
        return [
            PartState(names[variable], "external", port=urlsplit(url).port)
            for variable, url in urls.items()
            if variable in self._given
        ]


def _part_state(watch: Watch) -> PartState:
    return PartState(watch.part.name, watch.state, watch.part.child.pid, watch.part.port, watch.deaths)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn a request to stop into KeyboardInterrupt, which ends any wait."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the shape that signal asks for
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """While stopping: it takes bounded time, and a second Ctrl-C must not leave anything behind."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

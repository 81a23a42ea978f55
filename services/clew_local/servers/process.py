"""A child process that dies with its parent, writes to a log file and can be found again after a crash."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from clew_local.files import bound_log, read_json, write_json
from clew_spec.errors import Unavailable

STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with(parent: int, sig: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends `sig` when the thread that forked ends, so fork from one that lives long."""

    def prepare() -> None:
        if _libc is None:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the line above
            os._exit(1)

    return prepare


class Child:
    """One program, started again and again under one name.

    Its process id is kept in `run/<name>.json` of the lab: `end_leftovers` finds there what a killed supervisor left.
    """

    def __init__(self, name: str, data: Path, *, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self.name = name
        self.log = data / "logs" / f"{name}.log"
        self._record = data / "run" / f"{name}.json"
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
    ) -> None:
        """Start `command` in its own session, as `user` where one is given.

        Raises Unavailable where the program cannot be started.
        """
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        bound_log(self.log)
        with open(self.log, "ab") as log:
            self._process = spawn(
                command, log=log.fileno(), env=env, cwd=cwd, user=user, death_signal=self._stop_signal
            )
        pid = self._process.pid
        write_json(self._record, {"pid": pid, "created": _created(pid), "signal": int(self._stop_signal)})

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._stop_signal)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def stop(self, seconds: float = STOP_SECONDS) -> int | None:
        """Ask, wait at most `seconds`, then kill. Returns the exit code; None where nothing was started."""
        if self._process is None:
            return None
        self.ask_to_stop()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._record.unlink(missing_ok=True)
        return self._process.returncode

    def last_words(self, lines: int = 12) -> str:
        """The end of the log, for an error message."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


def spawn(
    command: Sequence[str | Path],
    *,
    log: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    words = [os.fspath(word) for word in command]
    if shutil.which(words[0]) is None:
        raise Unavailable(f"{words[0]} is not there or not executable", hint="run `make setup` again")
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # `identity` hides which overload it is
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
            preexec_fn=_die_with(os.getpid(), death_signal),
            **identity,
        )
    except OSError as error:
        raise Unavailable(f"{words[0]} cannot be started: {error}") from error


def end_leftovers(data: Path, seconds: float = STOP_SECONDS) -> None:
    """End every recorded process of the lab in `data`. For a new supervisor, before it starts anything.

    They were told to stop when their parent died; this waits for them, and kills what is still there.
    """
    left = []
    for path in (data / "run").glob("*.json"):
        record = read_json(path) or {}
        if process := find(record):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(int(record["signal"]))
            left.append(process)
        path.unlink(missing_ok=True)
    deadline = time.monotonic() + seconds
    while left := [process for process in left if is_running(process)]:
        if time.monotonic() > deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(_POLL_SECONDS)


def is_running(process: psutil.Process) -> bool:
    """False for a zombie too: in a container nobody may ever collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(record: Mapping[str, object]) -> psutil.Process | None:
    """The living process that `record` ({"pid", "created"}) was made of, not another that got its number."""
    try:
        process = psutil.Process(int(str(record["pid"])))
        same = abs(process.create_time() - float(str(record["created"]))) < 1.0
        return process if same and is_running(process) else None
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return None


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return time.time()

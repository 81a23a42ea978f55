"""A runner as a child process: started clean, spoken to over stdin, ended for certain."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clew_spec.runner import Cancel, RunJob

_PASSED = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "USER",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "HF_ENDPOINT",
)
_PASSED_PREFIXES = ("LC_", "PYTHON", "OMP_", "MKL_", "NVIDIA_", "CUDA_", "TORCH_", "HF_HOME", "XDG_CACHE_HOME")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_spawner = ThreadPoolExecutor(1, "spawner")
"""The kernel sends the death signal when the *thread* that forked ends: this one lives as long as the process."""


class Runner:
    """One child. `send` a job, later perhaps a `Cancel`; `end` it, or `close` its stdin and let it go."""

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as output:
            self._process = _spawner.submit(
                subprocess.Popen,
                list(command),
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            ).result()
        self._ending = threading.Lock()
        self.project_id: str | None = None
        self.served = 0
        self.confidential = False
        """Whether it was given secrets, which its words may quote."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: RunJob | Cancel) -> None:
        """A runner that is gone hears nothing; that it is gone is seen elsewhere."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(message.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def end(self, grace_s: float) -> None:
        """TERM, wait, KILL; returns when it is dead. May be called from several threads."""
        with self._ending:
            self.terminate()
            if not self.wait(grace_s):
                self.kill()
                self._process.wait()
            self._close_stdin()

    def close(self, grace_s: float) -> None:
        """Its work is done: end of stdin, and some time to go by itself."""
        self._close_stdin()
        if not self.wait(grace_s):
            self.end(grace_s)

    def wait(self, seconds: float) -> bool:
        """Whether it is gone within this time."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        code = self._process.poll()
        if code is None:
            return "still runs"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"exited with code {code}"

    def last_words(self, size: int = 4000) -> str:
        """The end of what it wrote to stdout and stderr."""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - size))
            return file.read().decode(errors="replace").replace("\x00", "")
        return ""

    def discard_words(self) -> None:
        """Nothing stays on the disk of what it wrote to stdout and stderr."""
        self._log.unlink(missing_ok=True)

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)  # it leads its own session, its children included


class Stopping:
    """Ask, then insist: Cancel, after a grace TERM, after another KILL."""

    def __init__(self, runner: Runner, *, checkpoint: bool, grace_s: float, kill_grace_s: float) -> None:
        self._runner = runner
        self._kill_grace_s = kill_grace_s
        self._steps: list[Callable[[], None]] = [runner.kill, runner.terminate]
        self._next_at = time.monotonic() + grace_s
        self.checkpoint = checkpoint
        runner.send(Cancel(checkpoint=checkpoint))

    def insist(self) -> None:
        """Take the next step if its time has come."""
        if self._steps and time.monotonic() >= self._next_at:
            self._steps.pop()()
            self._next_at = time.monotonic() + self._kill_grace_s


def clean_environment(device: str, *, offline: bool) -> dict[str, str]:
    """What a runner needs of this process's environment: no address, no password, no key of ours."""
    environ = {
        name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    kind, _, index = device.partition(":")
    if kind != "cuda":
        environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts, which is asked for the memory
        if index:
            environ["CUDA_VISIBLE_DEVICES"] = index
    if offline:
        environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # By plain HTTP alone, so that every address that is asked can be looked at first (`clew.hub`).
    environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    # A thread that waits by spinning takes the core from the one it waits for: thrice the time on busy cores.
    return {"OMP_WAIT_POLICY": "PASSIVE"} | environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def hide() -> None:
    """Memory and environment of this process are closed to its own user, who is the runner's too. Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent() -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel kills the child when the thread that starts it ends. Linux only."""
    if _libc is None:
        return None
    parent, prctl = os.getpid(), _libc.prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare

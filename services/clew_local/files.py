"""Small files of a lab: written whole or not at all."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOG_BYTES = 32 * 2**20


def write_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` by `text` in one step, readable by `mode`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n", mode=mode)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no such file or it holds no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def bound_log(path: Path, most: int = LOG_BYTES) -> None:
    """Where a log is larger than `most` bytes, move what it holds to `<name>.log.1`, and let it begin anew.

    Whoever writes to it goes on, if it was opened for appending; a line written in between may be lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > most:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the right to change `path`: two starts of one lab must not each make up their own."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Secrets:
    """Passwords of one lab, made when first asked for and kept in a file that only its owner reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = read_json(path) or {}

    def get(self, name: str) -> str:
        if name not in self._values:
            with locked(self._path):
                self._values = read_json(self._path) or {}
                if name not in self._values:
                    self._values[name] = secrets.token_hex(24)
                    write_json(self._path, self._values)
        return self._values[name]

    def adopt(self, name: str, value: str) -> None:
        """Take a password from elsewhere, where none was made up yet."""
        with locked(self._path):
            self._values = {name: value} | (read_json(self._path) or {})
            write_json(self._path, self._values)

"""Carry a runner's files to the object store."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from clew_lab.catalogue.publish import Uploaded
from clew_lab.storage import Store, checked_name
from clew_lab.storage.store import Stored
from clew_spec.errors import DataError, Unavailable
from clew_spec.runner import File

log = structlog.get_logger("clew_worker.uploads")
T = TypeVar("T")
RETRY_S = 1.0


class Uploads:
    """Uploads from one scratch folder to below one attempt's prefix.

    known: the key under which the project has this content already, by (sha256, size); None where it has not.
    keep_trying: raises where there is no point in trying on.
    """

    def __init__(
        self,
        store: Store,
        scratch: Path,
        key_of: Callable[[str], str],
        *,
        known: Callable[[str, int], str | None],
        keep_trying: Callable[[], None],
        patience_s: float,
    ) -> None:
        self._store = store
        self._scratch = scratch.resolve()
        self._key_of = key_of
        self._known = known
        self._keep_trying = keep_trying
        self._patience_s = patience_s

    def artifact(self, file: File) -> Uploaded:
        """Raises `DataError` where the file is not as announced, `Unavailable` where the store stays away too long."""
        path = self._path(file)
        key = self._known(file.sha256, file.size)
        if key is None or not self._holds(key, file):
            key = self._put(self._key_of(checked_name(file.name)), path, file)
        return Uploaded(file.name, key, file.sha256, file.size, file.media_type)

    def checkpoint(self, step: int, files: list[File]) -> list[dict[str, str | int]]:
        """Uploads and then removes the files: the next checkpoint brings its own. Raises as `artifact` does."""
        stored: list[dict[str, str | int]] = []
        for file in files:
            name = f"checkpoints/{step:08d}/{checked_name(file.name)}"
            key = self._put(self._key_of(name), self._path(file), file)
            stored.append({"name": file.name, "key": key, "sha256": file.sha256, "size": file.size})
        for file in files:
            self._path(file).unlink(missing_ok=True)
        return stored

    def discard(self, keys: list[str]) -> None:
        """Delete what is not needed any more; what cannot be deleted now goes with the job's leftovers."""
        with contextlib.suppress(Unavailable):
            for key in keys:
                self._store.delete(key)

    def _path(self, file: File) -> Path:
        path = (self._scratch / file.path).resolve()
        if not path.is_relative_to(self._scratch) or not path.is_file():
            raise DataError(f"the runner named {file.path!r}, which is no file in its scratch folder")
        if path.stat().st_size != file.size:
            raise DataError(f"{file.name} is not what was announced", expected=f"{file.size} bytes")
        return path

    def _holds(self, key: str, file: File) -> bool:
        """What the catalogue knows may be gone: a bucket that was restored, an object that was deleted by hand."""
        there = self._patiently(key, lambda: self._store.stat(key))
        return there == Stored(key, file.size, file.sha256)

    def _put(self, key: str, path: Path, file: File) -> str:
        return self._patiently(key, lambda: self._store.put(key, path, file.sha256, media_type=file.media_type)).key

    def _patiently(self, key: str, ask: Callable[[], T]) -> T:
        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                return ask()
            except Unavailable as error:
                if time.monotonic() > give_up_at:
                    raise
                log.warning("upload_put_off", key=key, error=error.detail)
                self._keep_trying()
                time.sleep(RETRY_S)

"""Send files to the lab: hashed, announced, part by part to the object store, completed.

There is nothing to keep between two tries: who announces the same files again goes on with the parts that are there.
"""

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

import httpx2
from pydantic import TypeAdapter, ValidationError

from clew_client.transport import PASSING, Transport, parse, unreachable
from clew_spec.api import Page
from clew_spec.data_views import PartView, UploadDetail, UploadView
from clew_spec.errors import ClewError, Conflict, Forbidden, InvalidSpec, Unavailable, from_problem
from clew_spec.uploads import MAX_FILES, UploadRequest
from clew_spec.validation import problem_of_validation

CHUNK = 1 << 20
PAGE = 100
"""Links asked for at once: they are valid for 15 minutes."""
ROUNDS = 5
"""How often links are asked for anew, where the old ones expired or parts did not arrive."""
FORBIDDEN = 403

OnProgress = Callable[[str, int, int, int], None]
"""Told again and again: `hash`, `send` or `fetch`, bytes done, bytes in all, bytes that this call has moved."""


class Uploads:
    """Part of a `Lab`."""

    def __init__(self, transport: Transport, objects: httpx2.Client) -> None:
        self._transport = transport
        self._objects = objects

    def list(self, *, name: str | None = None, limit: int | None = None) -> Iterator[UploadView]:
        """The project's, newest first."""
        return self._transport.pages(TypeAdapter(Page[UploadView]), "uploads", {"name": name}, limit)

    def get(self, upload_id: UUID) -> UploadDetail:
        found: UploadDetail = self._transport.get(UploadDetail, f"uploads/{upload_id}")
        return found

    def remove(self, upload_id: UUID) -> None:
        """Raises Conflict where a job that has not ended needs it."""
        self._transport.request("DELETE", f"uploads/{upload_id}")

    def send(self, path: Path, name: str | None = None, on_progress: OnProgress | None = None) -> UploadDetail:
        """A file, or all files of a folder but hidden ones. Interrupted, it goes on where it stopped when called again.

        name: to find it by; made of the path's own, if not given. Raises InvalidSpec for what cannot be uploaded,
        Conflict where a file changes meanwhile or the project has no room for it.
        """
        tell = on_progress or (lambda *_: None)
        local = find_files(path)
        request = _request(name or name_of(path), local, tell)
        content = request.model_dump_json()
        response = self._transport.request("POST", "uploads", content=content, idempotent=True)
        upload: UploadDetail = parse(UploadDetail, response)
        if upload.state == "open":
            sending = _Sending(self._objects, request, {file.name: file for file in local}, tell)
            for _ in range(ROUNDS):
                if self._send_missing(upload.id, sending):
                    break
            upload = self._complete(upload.id)
        tell("send", upload.size, upload.size, 0)
        return upload

    def _send_missing(self, upload_id: UUID, sending: "_Sending") -> bool:
        """Whether nothing was missing. A link that has expired, or a part that did not stay, ends the round."""
        sent: set[tuple[str, int]] = set()
        try:
            for part in self._missing(upload_id):
                if (part.file, part.number) in sent:
                    return False
                sending.put(part, self._transport)
                sent.add((part.file, part.number))
        except Forbidden:
            return False
        return not sent

    def _missing(self, upload_id: UUID) -> Iterator[PartView]:
        cursor: str | None = None
        while True:
            params = {"cursor": cursor, "limit": PAGE}
            response = self._transport.request("POST", f"uploads/{upload_id}/parts", params=params, idempotent=True)
            page: Page[PartView] = parse(TypeAdapter(Page[PartView]), response)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _complete(self, upload_id: UUID) -> UploadDetail:
        response = self._transport.request("POST", f"uploads/{upload_id}/complete", idempotent=True)
        upload: UploadDetail = parse(UploadDetail, response)
        return upload


@dataclass(frozen=True)
class Local:
    """A file as it was when it was hashed."""

    name: str
    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, name: str, path: Path) -> Self:
        found = path.stat()
        return cls(name, path, found.st_size, found.st_mtime_ns)

    def same(self) -> bool:
        return self.of(self.name, self.path) == self


def find_files(path: Path) -> list[Local]:
    """The file, or the folder's files. Raises InvalidSpec where there is none, or what is no regular file."""
    if path.is_file():
        return [Local.of(path.name, path)]
    if not path.is_dir():
        raise InvalidSpec(f"{path} is neither a file nor a folder", expected="a file, or a folder of files")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith("."):
                continue
            if not file.is_file():
                raise InvalidSpec(f"{file} is not a regular file", expected="files alone, or links to files")
            found.append(Local.of(file.relative_to(path).as_posix(), file))
    if not 0 < len(found) <= MAX_FILES:
        raise InvalidSpec(f"{path} holds {len(found)} files", expected=f"1 to {MAX_FILES}")
    return found


def name_of(path: Path) -> str:
    """`Notes 2026.jsonl.gz` as `notes-2026`."""
    stem = path.resolve().name
    if path.is_file():
        stem = re.sub(r"(\.(txt|jsonl|json|parquet|gguf|safetensors|pt|npz|gz|zst))+$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")[:63] or "upload"


def _request(name: str, local: list[Local], tell: OnProgress) -> UploadRequest:
    total, done = sum(file.size for file in local), 0
    files = []
    for file in local:
        digest = hashlib.sha256()
        with file.path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                tell("hash", done, total, 0)
        if not file.same():
            raise _changed(file)
        files.append({"name": file.name, "size": file.size, "sha256": digest.hexdigest()})
    try:
        return UploadRequest.model_validate({"name": name, "files": files})
    except ValidationError as error:
        raise from_problem(problem_of_validation(error.errors(include_url=False), UploadRequest)) from error


class _Sending:
    """The parts of one upload, and how much of it is there."""

    def __init__(self, http: httpx2.Client, request: UploadRequest, local: dict[str, Local], tell: OnProgress) -> None:
        self._http = http
        self._local = local
        self._tell = tell
        self._total = sum(file.size for file in request.files)
        self._starts: dict[str, int] = {}
        start = 0
        for file in request.files:
            self._starts[file.name] = start
            start += file.size
        self._sent = 0

    def put(self, part: PartView, transport: Transport) -> None:
        """Raises Forbidden where the link has expired, Unavailable where the store stays away, Conflict."""
        attempt = 0
        while True:
            attempt += 1
            pause = transport.retry.pause(attempt)
            try:
                self._put(part)
                return
            except httpx2.TransportError as error:
                if pause is None:
                    raise unreachable(str(httpx2.URL(part.url).copy_with(query=None)), error) from error
            except Unavailable:
                if pause is None:
                    raise
            time.sleep(pause)

    def _put(self, part: PartView) -> None:
        file = self._local[part.file]
        if not file.same():
            raise _changed(file)
        # The store takes nothing that was changed on the way; that the file is the one announced, the job will see.
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in _chunks(file.path, part):
            digest.update(chunk)
        md5 = base64.b64encode(digest.digest()).decode()
        headers = {"Content-Length": str(part.size), "Content-MD5": md5}
        response = self._http.put(part.url, content=self._counted(part), headers=headers)
        if not response.is_success:
            raise _refused(part, response)

    def _counted(self, part: PartView) -> Iterator[bytes]:
        done = self._starts[part.file] + part.offset
        for chunk in _chunks(self._local[part.file].path, part):
            yield chunk
            done += len(chunk)
            self._sent += len(chunk)
            self._tell("send", done, self._total, self._sent)


def _chunks(path: Path, part: PartView) -> Iterator[bytes]:
    left = part.size
    with path.open("rb") as stream:
        stream.seek(part.offset)
        while left and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _changed(file: Local) -> Conflict:
    return Conflict(f"{file.path} changed while it was uploaded", hint="upload it again when it is whole")


def _refused(part: PartView, response: httpx2.Response) -> ClewError:
    detail = f"part {part.number} of {part.file} was not taken: the object store answered {response.status_code}"
    if response.status_code in PASSING or response.status_code >= 500:
        return Unavailable(detail, hint="try again later; what was sent is kept")
    if response.status_code == FORBIDDEN:
        return Forbidden(detail, hint="its link is valid for 15 minutes")
    return ClewError(detail)

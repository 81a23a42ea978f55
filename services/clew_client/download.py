"""Fetch an artifact: streamed, checked, and in place only when it is whole."""

import hashlib
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import httpx2

from clew_client.errors import CorruptDownload
from clew_client.transport import PASSING, Retry, unreachable
from clew_spec.api import ArtifactView
from clew_spec.errors import ClewError, Forbidden, NotFound, Unavailable

CHUNK = 1 << 20


def download(http: httpx2.Client, artifact: ArtifactView, path: Path, retry: Retry) -> Path:
    """Write `artifact` to `path` (into it, by its last name, if that is a folder) and return where it lies.

    `http` carries no key: the URL is presigned and may point at another server. Raises CorruptDownload where size or
    sha256 are not the artifact's, Forbidden where the URL has expired; then `path` is as it was.
    """
    if path.is_dir():
        path = path / PurePosixPath(artifact.name).name
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    attempt = 0
    try:
        while True:
            attempt += 1
            pause = retry.pause(attempt)
            try:
                _fetch(http, artifact, temporary)
                break
            except httpx2.TransportError as error:
                if pause is None:
                    raise unreachable(str(httpx2.URL(artifact.url).copy_with(query=None)), error) from error
            except Unavailable:
                if pause is None:
                    raise
            time.sleep(pause)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _fetch(http: httpx2.Client, artifact: ArtifactView, temporary: Path) -> None:
    # Without `identity` a proxy may compress, and the bytes would be counted after decompression.
    with http.stream("GET", artifact.url, headers={"Accept-Encoding": "identity"}) as response:
        if not response.is_success:
            raise _refused(artifact, response)
        digest = hashlib.sha256()
        size = 0
        # While one chunk is written and counted into the digest, the next comes in.
        with temporary.open("wb") as file, ThreadPoolExecutor(1) as beside:

            def keep(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            kept = None
            for chunk in response.iter_bytes(CHUNK):
                size += len(chunk)
                if size > artifact.size:
                    break
                if kept is not None:
                    kept.result()
                kept = beside.submit(keep, chunk)
            if kept is not None:
                kept.result()
            file.flush()
            os.fsync(file.fileno())
    if size != artifact.size:
        raise CorruptDownload(
            f"{artifact.name} came with {'more' if size > artifact.size else f'{size}'} bytes",
            expected=f"{artifact.size} bytes",
        )
    if digest.hexdigest() != artifact.sha256:
        raise CorruptDownload(
            f"{artifact.name} has sha256 {digest.hexdigest()}",
            expected=artifact.sha256,
            hint="the object store's copy is damaged, or something on the way changed it",
        )


def _refused(artifact: ArtifactView, response: httpx2.Response) -> ClewError:
    detail = f"{artifact.name} cannot be fetched: the object store answered {response.status_code}"
    if response.status_code in PASSING:
        return Unavailable(detail, hint="try again later")
    if response.status_code == 403:
        return Forbidden(detail, hint="its URL is valid for 15 minutes: list the job's artifacts again")
    if response.status_code == 404:
        return NotFound(detail)
    return ClewError(detail)

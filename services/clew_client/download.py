"""Fetch an artifact: streamed, checked, and in place only when it is whole."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError

from clew_client.errors import CorruptDownload
from clew_client.transport import PASSING, Retry, unreachable
from clew_spec.api import ArtifactView
from clew_spec.errors import ClewError, Forbidden, NotFound, Unavailable

CHUNK = 1 << 22
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Of this machine, which no proxy can reach."""

OnBytes = Callable[[int], None]
"""Told again and again how many bytes are there; less than before where a broken connection is tried again."""


def download(
    artifact: ArtifactView, path: Path, retry: Retry, *, timeout_s: float = 30.0, tell: OnBytes | None = None
) -> Path:
    """Write `artifact` to `path` (into it, by its last name, if that is a folder) and return where it lies.

    No key is sent: the URL is presigned and may point at another server. Raises CorruptDownload where size or sha256
    are not the artifact's, Forbidden where the URL has expired; then `path` is as it was.
    """
    if path.is_dir():
        path = path / PurePosixPath(artifact.name).name
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    attempt = 0
    try:
        with _pool(artifact.url, timeout_s) as pool:
            while True:
                attempt += 1
                pause = retry.pause(attempt)
                try:
                    _fetch(pool, artifact, temporary, tell or (lambda _: None))
                    break
                except HTTPError as error:
                    if pause is None:
                        raise unreachable(artifact.url.partition("?")[0], error) from error
                except Unavailable:
                    if pause is None:
                        raise
                time.sleep(pause)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _pool(url: str, timeout_s: float) -> PoolManager:
    """By the proxy that the environment names, if it names one for this server.

    Not httpx2, which reads 64 KiB at a time: half as fast as an object store on the same machine sends.
    """
    server = urlsplit(url)
    options: dict[str, Any] = {"timeout": Timeout(connect=min(timeout_s, 10.0), read=timeout_s), "retries": False}
    proxy = getproxies().get(server.scheme)
    if proxy is None or server.hostname in LOOPBACK or proxy_bypass(server.netloc):
        return PoolManager(**options)
    return ProxyManager(proxy, **options)


def _fetch(pool: PoolManager, artifact: ArtifactView, temporary: Path, tell: OnBytes) -> None:
    # Without `identity` a proxy may compress, and the bytes would be counted after decompression.
    headers = {"Accept-Encoding": "identity"}
    with closing(pool.request("GET", artifact.url, headers=headers, redirect=False, preload_content=False)) as response:
        if response.status != 200:
            raise _refused(artifact, response.status)
        digest = hashlib.sha256()
        size = 0
        # While a chunk is counted into the digest and written, the next comes in. Nothing waits for the disk: what a
        # power cut takes can be fetched again.
        with temporary.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as beside:

            def keep(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            kept: Future[None] | None = None
            while size <= artifact.size and (chunk := response.read(CHUNK, decode_content=False)):
                size += len(chunk)
                tell(size)
                if kept is not None:
                    kept.result()
                kept = beside.submit(keep, chunk)
            if kept is not None:
                kept.result()
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


def _refused(artifact: ArtifactView, status: int) -> ClewError:
    detail = f"{artifact.name} cannot be fetched: the object store answered {status}"
    if status in PASSING:
        return Unavailable(detail, hint="try again later")
    if status == 403:
        return Forbidden(detail, hint="its URL is valid for 15 minutes: list the job's artifacts again")
    if status == 404:
        return NotFound(detail)
    return ClewError(detail)

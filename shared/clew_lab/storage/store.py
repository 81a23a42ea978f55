"""Files in any S3 server, through the minio SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error

from clew_lab.settings import Settings
from clew_spec.errors import Conflict, DataError, NotFound, Unavailable

PRESIGNED = timedelta(minutes=15)
PRESIGNED_FOR_RUNNERS = timedelta(hours=24)
"""They fetch one file after another, and wait for a store that is away."""
PART_BYTES = 16 * 2**20
_DIGEST = "x-amz-meta-sha256"
_GONE = ("NoSuchKey", "NoSuchObject", "NoSuchBucket")
UNREACHABLE = (urllib3.exceptions.HTTPError, InvalidResponseError, ConnectionError)


@dataclass(frozen=True)
class Stored:
    key: str
    size: int
    sha256: str | None


class Store:
    """One bucket. Every key is written once. Raises `Unavailable` where the server does not answer."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        secure: bool = False,
        region: str = "us-east-1",
        public_url: str | None = None,
        patience_s: float | None = None,
    ) -> None:
        """patience_s: how long an answer is waited for, once; else as long as the transfer of a file may need."""
        self.bucket = bucket
        # The region is given, so that signing a link asks no server.
        http = _http_client() if patience_s is None else _impatient(patience_s)
        self.client = Minio(endpoint, access_key, secret_key, secure=secure, region=region, http_client=http)
        self.public = self.client
        if public_url is not None:
            url = urlsplit(public_url)
            self.public = Minio(url.netloc, access_key, secret_key, secure=url.scheme == "https", region=region)

    @classmethod
    def of(cls, settings: Settings, *, patience_s: float | None = None) -> Self:
        return cls(
            settings.s3_endpoint,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
            settings.s3_bucket,
            secure=settings.s3_secure,
            region=settings.s3_region,
            public_url=settings.s3_public_url,
            patience_s=patience_s,
        )

    def create_bucket(self) -> None:
        """Make the bucket if it is not there."""
        with translated():
            try:
                if not self.client.bucket_exists(bucket_name=self.bucket):
                    self.client.make_bucket(bucket_name=self.bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def put(self, key: str, path: Path, digest: str, *, media_type: str = "application/octet-stream") -> Stored:
        """Upload a file, in parts where it is large, hashing what is sent.

        Writing the same content again changes nothing. Raises `Conflict` where the key holds another content,
        `DataError` where the file is not what `digest` (sha256, hex) says; then nothing is written.
        """
        there = self.stat(key)
        if there is not None:
            if there.sha256 != digest:
                raise Conflict(f"{key} is written already, with another content")
            return there
        size = path.stat().st_size
        with path.open("rb") as file, translated():
            self.client.put_object(
                bucket_name=self.bucket,
                object_name=key,
                data=cast(BinaryIO, _Verified(file, size, digest, path.name)),
                length=size,
                content_type=media_type,
                metadata={_DIGEST: digest},
                part_size=PART_BYTES,
            )
        return Stored(key, size, digest)

    def stat(self, key: str) -> Stored | None:
        """What lies under the key; None where nothing does."""
        with translated():
            try:
                found = self.client.stat_object(bucket_name=self.bucket, object_name=key)
            except S3Error as error:
                if error.code in _GONE:
                    return None
                raise
        metadata = {name.lower(): value for name, value in (found.metadata or {}).items()}
        return Stored(key, found.size or 0, metadata.get(_DIGEST))

    def read(self, key: str) -> bytes:
        """A small object whole. Raises `NotFound`."""
        with self._opened(key) as answer:
            return bytes(answer.data)

    def fetch(self, key: str, path: Path, digest: str) -> int:
        """Write the object to a file; returns its size. Raises `NotFound`, `DataError` where its sha256 is another."""
        hashed, size = sha256(), 0
        with self._opened(key) as answer, path.open("wb") as file:
            for chunk in answer.stream(2**20):
                hashed.update(chunk)
                size += file.write(chunk)
        if hashed.hexdigest() != digest:
            raise DataError(f"the object {key} is not what was stored", expected=f"sha256 {digest}")
        return size

    def link(self, key: str, *, download_as: str | None = None, lasts: timedelta = PRESIGNED) -> str:
        """A URL from which anyone may read the object for a while. Asks no server."""
        headers: dict[str, str | list[str] | tuple[str]] | None = None
        if download_as:
            headers = {"response-content-disposition": f'attachment; filename="{download_as}"'}
        return self.public.presigned_get_object(
            bucket_name=self.bucket, object_name=key, expires=lasts, response_headers=headers
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port of all links, as a browser's policy names them. Asks no server."""
        url = urlsplit(self.link("any"))
        return f"{url.scheme}://{url.netloc}"

    def keys(self, prefix: str) -> Iterator[str]:
        with translated():
            for item in self.client.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True):
                if item.object_name:
                    yield item.object_name

    def delete(self, key: str) -> None:
        """Nothing happens where there is no such object."""
        with translated():
            self.client.remove_object(bucket_name=self.bucket, object_name=key)

    def delete_prefix(self, prefix: str, *, keep: frozenset[str] = frozenset()) -> int:
        """Delete all below `prefix` (which must end with `/`) but `keep`; returns how many objects went."""
        if not prefix.endswith("/") or prefix.count("/") < 2:
            raise ValueError(f"refusing to delete everything below {prefix!r}")
        doomed = [key for key in self.keys(prefix) if key not in keep]
        with translated():
            errors = list(
                self.client.remove_objects(
                    bucket_name=self.bucket, delete_object_list=[DeleteObject(key) for key in doomed]
                )
            )
        if errors:
            raise Unavailable(f"{len(errors)} of {len(doomed)} objects below {prefix} could not be deleted")
        return len(doomed)

    @contextmanager
    def _opened(self, key: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """Raises `NotFound`."""
        with translated():
            try:
                answer = self.client.get_object(bucket_name=self.bucket, object_name=key)
            except S3Error as error:
                if error.code in _GONE:
                    raise NotFound(f"no object {key}") from error
                raise
            try:
                yield answer
            finally:
                answer.close()
                answer.release_conn()


class _Verified:
    """A file whose last bytes are given out only if all of it has the right sha256: before that, S3 stores nothing."""

    def __init__(self, file: BinaryIO, size: int, digest: str, name: str) -> None:
        self._file = file
        self._left = size
        self._digest = digest
        self._name = name
        self._hash = sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._hash.update(chunk)
        self._left -= len(chunk)
        if (self._left == 0 and self._hash.hexdigest() != self._digest) or (not chunk and self._left):
            raise DataError(f"{self._name} is not what was announced", expected=f"sha256 {self._digest}")
        return chunk


class translated:  # noqa: N801  # reads as the verb it is
    """Errors of the server and of the way to it, as one of ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, S3Error):
            raise Unavailable(f"the object store refused: {error.code}: {error.message}") from error
        if isinstance(error, UNREACHABLE):
            raise Unavailable(f"the object store does not answer: {type(error).__name__}") from error


def _http_client() -> urllib3.PoolManager:
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=60),
        maxsize=8,
        retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )


def _impatient(seconds: float) -> urllib3.PoolManager:
    return urllib3.PoolManager(timeout=seconds, retries=False)

"""Objects that somebody else sends, in parts, by links: S3's multipart upload.

What it needs of the minio SDK is not public there (`_create_multipart_upload` and its like, and the signer): the
version is held below 8, and `tests/clew_lab/storage/test_multipart.py` tells when that changes.
"""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlunsplit

from minio import Minio, datatypes, signer, time
from minio.error import S3Error
from minio.helpers import queryencode

from clew_lab.storage.store import PRESIGNED, Store, translated
from clew_spec.errors import DataError

PAGE = 1000
"""Parts that a server tells at once, at most."""
_NO_UPLOAD = "NoSuchUpload"
_REFUSED = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall")


@dataclass(frozen=True)
class Part:
    number: int
    size: int
    etag: str


class Multipart:
    """Of one store. Nothing can be read under a key before its parts are joined, and no link writes to it after."""

    def __init__(self, store: Store) -> None:
        self._client: Minio = store.client
        self._public: Minio = store.public
        self._bucket = store.bucket

    def begin(self, key: str) -> str:
        """The id of a new upload to `key`."""
        with translated():
            return self._client._create_multipart_upload(self._bucket, key, {})

    def link(self, key: str, id: str, number: int, size: int, *, lasts: timedelta = PRESIGNED) -> str:
        """A URL to which anyone may PUT part `number`, of exactly `size` bytes, for a while. Asks no server.

        The length is signed with the rest, as the SDK's own links do not have it: Signature Version 4, by query.
        """
        client, date, region = self._public, time.utcnow(), str(self._public._base_url.region)
        credentials = client._provider.retrieve()  # type: ignore[union-attr]  # a store without keys is none of ours
        scope = signer._get_scope(date, region, "s3")
        query: dict[str, str | list[str] | tuple[str]] = {
            "uploadId": id,
            "partNumber": str(number),
            "X-Amz-Algorithm": signer.SIGN_V4_ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": time.to_amz_date(date),
            "X-Amz-Expires": str(int(lasts.total_seconds())),
            "X-Amz-SignedHeaders": "content-length;host",
        }
        url = client._base_url.build(
            method="PUT", region=region, bucket_name=self._bucket, object_name=key, query_params=query
        )
        headers = {"content-length": str(size), "host": url.netloc}
        hashed, _ = signer._get_canonical_request_hash("PUT", url, headers, "UNSIGNED-PAYLOAD")
        secret = signer._get_signing_key(credentials.secret_key, date, region, "s3")
        signature = signer._get_signature(secret, signer._get_string_to_sign(date, scope, hashed))
        return urlunsplit(url._replace(query=f"{url.query}&X-Amz-Signature={queryencode(signature)}"))

    def parts(self, key: str, id: str) -> list[Part] | None:
        """The parts that are there; None where there is no such upload: it was joined, or is gone.

        Of a part that was sent again some servers tell the newest, others all of them, and join the one they are told.
        """
        found: list[Part] = []
        marker: str | None = None
        with translated():
            while True:
                try:
                    page = self._client._list_parts(self._bucket, key, id, PAGE, marker)
                except S3Error as error:
                    if error.code == _NO_UPLOAD:
                        return None
                    raise
                found += [Part(part.part_number, part.size or 0, part.etag.strip('"')) for part in page.parts]
                marker = page.next_part_number_marker
                if not page.is_truncated or not marker:
                    return found

    def join(self, key: str, id: str, parts: list[Part]) -> None:
        """Make the object of these parts, all that there are. Raises `DataError` where the store does not take them."""
        with translated():
            try:
                joined = [datatypes.Part(part.number, part.etag) for part in parts]
                self._client._complete_multipart_upload(self._bucket, key, id, joined)
            except S3Error as error:
                if error.code in _REFUSED:
                    raise DataError(f"the parts of {key} do not fit together: {error.code}") from error
                if error.code != _NO_UPLOAD:  # else an earlier call joined them: the size will tell
                    raise

    def abort(self, key: str, id: str) -> None:
        """Forget its parts. Nothing happens where there is no such upload."""
        with translated():
            try:
                self._client._abort_multipart_upload(self._bucket, key, id)
            except S3Error as error:
                if error.code != _NO_UPLOAD:
                    raise

"""Where a job's files lie. A key holds one content for ever: each attempt writes below its own fence."""

import re
from uuid import UUID

from clew_spec.errors import InvalidSpec

MAX_KEY_BYTES = 900
"""S3 allows 1024; some servers add to it."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


def object_key(project_id: UUID, job_id: UUID, fence: int, name: str) -> str:
    """`projects/{p}/jobs/{id}/{fence}/{name}`. Raises `InvalidSpec` for a name that could lead elsewhere."""
    key = attempt_prefix(project_id, job_id, fence) + checked_name(name)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidSpec(f"the file name {name[:80]!r}... is too long", expected=f"a key of {MAX_KEY_BYTES} bytes")
    return key


def upload_prefix(project_id: UUID, upload_id: UUID) -> str:
    """What all keys of an upload begin with; its files are numbered, and no name of a user's stands in a key."""
    return f"projects/{project_id}/uploads/{upload_id}/"


def attempt_prefix(project_id: UUID, job_id: UUID, fence: int) -> str:
    """What all keys of one attempt begin with."""
    return f"projects/{project_id}/jobs/{job_id}/{fence}/"


def checked_name(name: str) -> str:
    """A relative `/`-separated name without `.`, `..`, empty parts, backslashes or control characters."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or _CONTROL.search(name):
        raise InvalidSpec(f"{name!r} is not a file name", expected="a relative path without `..`, such as `a/b.json`")
    return name

"""Files that a user brings: what they are before a byte of them is sent, and where a job finds them.

The files go straight to the object store, part by part, by links that the API signs. A job names them by `upload:` and
the name or id of the upload, where otherwise a path on the worker's disk stands.
"""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from clew_spec.base import Digest, Name, Spec
from clew_spec.units import size

SCHEME = "upload:"
MAX_FILES = 1000
MAX_NAME_BYTES = 512
MAX_DEPTH = 16
MAX_BYTES = 2**44
"""16 TiB, of an upload."""
MIN_PART, MAX_PARTS = 16 * 2**20, 5000
"""Bytes of a part, which S3 wants to be 5 MiB or more; parts of a file, of which it takes 10,000."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


def _inside(name: str) -> str:
    """Raises ValueError for a name that could lead elsewhere, or that looks like another."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or part != part.strip() for part in parts) or "\\" in name or ":" in parts[0]:
        raise ValueError(f"{name!r} is not a file name; expected a relative path without `..`, such as `a/b.json`")
    if _UNSEEN.search(name):
        raise ValueError(f"{name!r} has characters that cannot be seen")
    if len(parts) > MAX_DEPTH or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise ValueError(f"the file name {name[:40]!r}... is too long; expected {MAX_NAME_BYTES} bytes at most")
    return name


FileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME_BYTES),
    AfterValidator(_inside),
    Field(description="relative, `/`-separated, without `..`"),
]


class UploadFile(Spec):
    name: FileName
    size: int = Field(ge=0, le=MAX_BYTES)
    sha256: Digest
    """Of the whole file. The job that reads it checks it, and takes no other."""

    @property
    def part_size(self) -> int:
        """Bytes of every part but the last."""
        return max(MIN_PART, -(-self.size // MAX_PARTS))

    @property
    def parts(self) -> int:
        """How many; an empty file has one."""
        return max(1, -(-self.size // self.part_size))

    def part(self, number: int) -> tuple[int, int]:
        """Where part `number`, from 1, begins, and its size."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)


class UploadRequest(Spec):
    """The body of `POST /api/v1/uploads`. The same again is the same upload, with the parts that it has."""

    name: Name
    files: list[UploadFile] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _a_folder_of_files(self) -> Self:
        names = {file.name for file in self.files}
        if len(names) < len(self.files):
            raise ValueError("two of the files have the same name")
        for name in names:
            parts = name.split("/")
            if any("/".join(parts[:depth]) in names for depth in range(1, len(parts))):
                raise ValueError(f"what holds {name!r} is itself a file")
        if (total := sum(file.size for file in self.files)) > MAX_BYTES:
            raise ValueError(f"the files have {size(total)} together; expected {size(MAX_BYTES)} at most")
        return self


def split_ref(path: str) -> tuple[str, str] | None:
    """The upload that a path names and what of it: `upload:texts/a.txt` is `texts` and `a.txt`; None of other paths."""
    if not path.startswith(SCHEME):
        return None
    ref, _, inner = path.removeprefix(SCHEME).partition("/")
    return ref, inner

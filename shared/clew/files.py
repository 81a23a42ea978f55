"""Files that are either whole or not there, and what names their content."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from clew_spec.errors import InvalidSpec


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(digests: Mapping[str, str]) -> str:
    """sha256 over names and digests, in the order of the names."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def inside(path: Path, roots: Sequence[Path], *, where: str = "/spec/path") -> Path:
    """The real path, symbolic links followed. Raises InvalidSpec where it is under none of `roots`."""
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise InvalidSpec(
            f"{str(path)!r} is outside the folders that may be imported from",
            where=where,
            expected="a path under one of CLEW_IMPORT_ROOTS, symbolic links followed",
        )
    return real


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into. It takes the place of `folder` if the block ends well, and is gone if it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tag = secrets.token_hex(4)
    fresh = folder.with_name(f".{folder.name}.{tag}.new")
    fresh.mkdir()
    try:
        yield fresh
        if folder.exists():
            stale = folder.with_name(f".{folder.name}.{tag}.old")
            os.replace(folder, stale)
            os.replace(fresh, folder)
            shutil.rmtree(stale)
        else:
            os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)

"""Files that are either whole or not there, what names their content, and where a user may have one read."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from clew_spec.errors import InvalidSpec, StorageFull


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(digests: Mapping[str, str]) -> str:
    """sha256 over names and digests, in the order of the names."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def inside_roots(path: Path, roots: Sequence[Path], *, where: str) -> Path:
    """The real path, symbolic links followed. Raises InvalidSpec unless it is one of `roots` or below one."""
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise InvalidSpec(
            f"{str(path)!r} is outside the folders that may be imported from",
            where=where,
            expected="a path under one of CLEW_IMPORT_ROOTS, symbolic links followed",
        )
    return real


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into. It takes the place of `folder` if the block ends well, and is gone if it does not.

    Raises StorageFull where there is no room for it; what is in `folder` is then as it was.
    """
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
    except Exception as error:
        if is_full(error):
            raise StorageFull(
                f"there was no room to write {folder.name}: nothing of it was kept",
                hint="make room on the worker's disk; what was written whole before is still there",
            ) from error
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def is_full(error: Exception) -> bool:
    """Whether it says that the disk is full."""
    full = (errno.ENOSPC, errno.EDQUOT)
    # what safetensors raises carries the system's words, not its number
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)

"""Which paths `import-model` and `import-coders` may name."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from clew_spec.errors import InvalidSpec


def check_import_path(path: str, roots: Sequence[Path], *, where: str, suffixes: Collection[str] = (".gguf",)) -> None:
    """Raises `InvalidSpec` unless `path` is absolute, normal, and under a root, links followed as far as they exist.

    A file must end in one of `suffixes`.
    The file is the worker's, perhaps on another machine: whether it is there, only the worker can say.
    """
    allowed = ", ".join(map(str, roots)) or "none: CLEW_IMPORT_ROOTS is not set"
    expected = f"an absolute path under one of the import roots ({allowed})"
    if not path.isprintable():
        raise InvalidSpec("the path has characters that cannot be printed", where=where, expected=expected)
    if not os.path.isabs(path) or os.path.normpath(path) != path.rstrip("/"):
        raise InvalidSpec(f"{path} is not an absolute, normal path", where=where, expected=expected)
    try:
        real = Path(os.path.realpath(path))
        inside = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
        wrong_file = inside and real.is_file() and real.suffix not in suffixes
    except OSError as error:  # a name too long, a loop of links
        raise InvalidSpec(
            f"{path[:200]} cannot be looked up: {error.strerror}", where=where, expected=expected
        ) from None
    if not inside:
        raise InvalidSpec(f"{path} is outside the import roots", where=where, expected=expected)
    if wrong_file:
        raise InvalidSpec(
            f"{path} is a file", where=where, expected=f"a folder, or a file that ends in {' or '.join(suffixes)}"
        )

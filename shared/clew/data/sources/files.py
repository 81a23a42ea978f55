"""Sources on the worker's disk: which files they are, and in which order their documents come."""

import hashlib
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.data.sources.source import Text
from clew.files import inside_roots
from clew_spec.datasets import FileSource
from clew_spec.errors import DataError

WHERE = "/spec/source/path"
SHUFFLED_DOCUMENTS = 2**12
SHUFFLED_CHARACTERS = 2**25
UNFOLDED, UNFOLDED_TIMES = 2**26, 200
"""Characters that any file may hold; beyond these, so many for each byte of it."""


@dataclass
class SourceFile:
    name: str
    """Relative to the source's folder; it decides the order, and stands in messages."""
    path: Path
    size: int
    at: int = 0
    """Bytes of it that were read, as they lie on the disk."""
    unfolded: int = 0
    """Characters that came out of it, those that are no document's included."""

    def unfold(self, characters: int) -> None:
        """So many more came out. Raises DataError where a small file has no end: it was made to fill memory or time."""
        self.unfolded += characters
        if self.unfolded > UNFOLDED and self.unfolded > UNFOLDED_TIMES * self.size:
            raise DataError(
                f"{self.name} unfolds to more than {UNFOLDED_TIMES} times its size",
                where=WHERE,
                expected="text, which compression makes 2 to 20 times smaller",
            )


class Files:
    """The documents of all files of a source.

    Files come in an order that the seed decides. Their documents pass through a buffer of at most 4,096 documents or
    32 Mi characters, from which the seed draws the next: in a file much longer than that, order is kept in the large.
    Copies of a document are kept, and all fall in one split.
    """

    def __init__(self, spec: FileSource, roots: Sequence[Path], read: Callable[[SourceFile], Iterator[Text]]) -> None:
        """`read` gives the documents of one file, in its order, and moves `at`.

        Raises InvalidSpec for a path outside `roots`, DataError where there is no file.
        """
        self.files = find_files(spec, roots)
        field = getattr(spec, "field", None)
        name = Path(spec.path).name  # an upload lies where its reader never heard of
        self.title = name if field is None else f"the field `{field}` of {name}"
        self._read = read
        self._files_read = 0

    def documents(self, seed: int) -> Iterator[Text]:
        files = sorted(self.files, key=lambda file: hashlib.sha256(f"{seed}/{file.name}".encode()).digest())
        return shuffled((document for file in files for document in self._documents_of(file)), seed)

    def _documents_of(self, file: SourceFile) -> Iterator[Text]:
        self._files_read += 1
        try:
            yield from self._read(file)
        except UnicodeDecodeError as error:
            raise DataError(f"{file.name} is not UTF-8: {error.reason}", where=WHERE) from error
        except (OSError, EOFError, zlib.error) as error:  # the last two of a file that was compressed
            raise DataError(f"{file.name} cannot be read: {error}", where=WHERE) from error
        file.at = file.size

    def progress(self) -> tuple[float, float, str]:
        return sum(file.at for file in self.files), sum(file.size for file in self.files), "bytes"

    def facts(self) -> dict[str, Any]:
        return {"files": len(self.files), "files_read": self._files_read}


def find_files(spec: FileSource, roots: Sequence[Path]) -> list[SourceFile]:
    """The file at `spec.path`, or all below that folder that have the right ending, in the order of their names.

    Names that begin with a dot and links to folders are passed over; a link to a file must end inside the roots.
    Raises InvalidSpec, DataError.
    """
    real = inside_roots(Path(spec.path), roots, where=WHERE)
    endings = " or ".join(spec.endings)
    if real.is_file():
        if not (spec.path.endswith(spec.endings) or real.name.endswith(spec.endings)):
            raise DataError(
                f"{spec.path} is a file", where=WHERE, expected=f"a folder, or a file that ends in {endings}"
            )
        return [_source_file(real, Path(spec.path).name if spec.path.endswith(spec.endings) else real.name)]
    if not real.is_dir():
        raise DataError(f"{spec.path} does not exist", where=WHERE, expected="a folder or a file")
    found = []
    for folder, folders, names in os.walk(real, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(spec.endings) and not name.startswith("."):
                path = Path(folder, name)
                target = inside_roots(path, roots, where=WHERE)
                found.append(_source_file(target, path.relative_to(real).as_posix()))
    if not found:
        raise DataError(f"{spec.path} holds no such file", where=WHERE, expected=f"files that end in {endings}")
    return sorted(found, key=lambda file: file.name)


def _source_file(real: Path, name: str) -> SourceFile:
    if not real.is_file():  # a pipe would wait for its writer
        raise DataError(f"{name} is not a regular file", where=WHERE)
    # To the disk names are bytes: where they are not UTF-8, they can be neither hashed nor shown.
    return SourceFile(os.fsencode(name).decode(errors="replace"), real, real.stat().st_size)


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}", where=WHERE) from error


def shuffled(documents: Iterable[Text], seed: int) -> Iterator[Text]:
    """`documents` in an order that `seed` decides, with at most a buffer of them in memory."""
    draw = random.Random(seed).random  # noqa: S311 an order, no secret; the one method that is the same in every version
    buffer: list[Text] = []
    characters = 0
    for document in documents:
        buffer.append(document)
        characters += len(document.text)
        while len(buffer) > SHUFFLED_DOCUMENTS or characters > SHUFFLED_CHARACTERS:
            drawn = _take(buffer, draw)
            characters -= len(drawn.text)
            yield drawn
    while buffer:
        yield _take(buffer, draw)


def _take(buffer: list[Text], draw: Callable[[], float]) -> Text:
    at = int(draw() * len(buffer))
    buffer[at], buffer[-1] = buffer[-1], buffer[at]
    return buffer.pop()

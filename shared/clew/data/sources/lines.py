"""Text files opened for reading, compressed or not."""

import gzip
import io
from collections.abc import Iterator
from typing import IO, cast

import pyarrow as pa

from clew.data.sources.files import SourceFile


def lines(file: SourceFile, *, longest: int) -> Iterator[str]:
    """The lines of a UTF-8 file with their `\\n`, decompressed as its name says; of a longer line, part after part.

    Raises what `Files` makes DataErrors of.
    """
    with file.path.open("rb") as raw:
        # `utf-8-sig` takes off a byte-order mark; `\n` alone ends a line, as JSON lines have it.
        text = io.TextIOWrapper(_decompressed(file.name, raw), encoding="utf-8-sig", newline="\n")
        while line := text.readline(longest):
            file.at = raw.tell()
            file.unfold(len(line))
            yield line


def _decompressed(name: str, raw: IO[bytes]) -> IO[bytes]:
    if name.endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if name.endswith(".zst"):
        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))
    return raw

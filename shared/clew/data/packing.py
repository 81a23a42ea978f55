"""Documents end to end, cut into rows of one width, written in shards as they fill."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from clew.data.dataset import Split
from clew_spec.datasets import Attention

TOKENS_PER_SHARD = 2**24


class Packer:
    """Packs one split of a dataset into `<split>-00000.safetensors`, ... in `folder`."""

    def __init__(
        self,
        folder: Path,
        split: Split,
        *,
        context: int,
        bos_id: int | None,
        attention: Attention = "row",
        tokens_per_shard: int = TOKENS_PER_SHARD,
    ) -> None:
        self.folder, self.split, self.context, self.bos_id = folder, split, context, bos_id
        self.attention = attention
        self.tokens_per_shard = tokens_per_shard
        self.n_rows = self.n_documents = self.dropped = 0
        self.largest_id = -1
        self.files: list[str] = []
        self._tokens: list[NDArray[np.int32]] = []
        """Of whole rows that are not yet written, end to end."""
        self._segments: list[NDArray[np.int16]] = []
        self._in_row = 0
        self._first_document = 0
        """Number of the document that the present row begins with."""
        self._text_in_row = self._pending = 0

    def add(self, ids: Sequence[int]) -> None:
        """Append one document. Where it crosses the end of a row, it goes on in the next.

        The first token that rows have also stands before a document that tokens of others do not attend to.
        """
        rest = np.asarray(ids, dtype=np.int32)
        self._pending += len(rest)
        if self.attention == "document" and self._in_row and len(rest):
            self._put_first()
        while len(rest):
            if not self._in_row:
                self._first_document = self.n_documents
                self._put_first()
            taken, rest = rest[: self.context - self._in_row], rest[self.context - self._in_row :]
            self._put(taken, text=len(taken))
        self.n_documents += 1
        if self._pending >= self.tokens_per_shard:
            self._write()

    def close(self) -> None:
        """Write what is pending; the tail that does not fill a row is dropped, and counted in `dropped`."""
        self._write()
        self.dropped = self._pending

    def _put_first(self) -> None:
        if self.bos_id is not None:
            self._put(np.asarray([self.bos_id], dtype=np.int32))

    def _put(self, ids: NDArray[np.int32], *, text: int = 0) -> None:
        self._tokens.append(ids)
        self._segments.append(np.full(len(ids), self.n_documents - self._first_document, dtype=np.int16))
        self._in_row = (self._in_row + len(ids)) % self.context
        self._text_in_row = self._text_in_row + text if self._in_row else 0

    def _write(self) -> None:
        if not self._tokens:
            return
        tokens, segments = np.concatenate(self._tokens), np.concatenate(self._segments)
        n_rows = len(tokens) // self.context
        if n_rows == 0:
            return
        cut = n_rows * self.context
        tokens_NT, segments_NT = tokens[:cut].reshape(n_rows, -1), segments[:cut].reshape(n_rows, -1)
        name = f"{self.split}-{len(self.files):05d}.safetensors"
        save_file({"tokens_NT": tokens_NT, "segments_NT": segments_NT}, self.folder / name)
        self.files.append(name)
        self.n_rows += n_rows
        self.largest_id = max(self.largest_id, int(tokens_NT.max()))
        self._tokens, self._segments, self._pending = [tokens[cut:]], [segments[cut:]], self._text_in_row

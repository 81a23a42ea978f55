"""Documents end to end, cut into rows of one width, written in shards as they fill."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from clew.data.dataset import Split

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
        tokens_per_shard: int = TOKENS_PER_SHARD,
    ) -> None:
        self.folder, self.split, self.context, self.bos_id = folder, split, context, bos_id
        self.tokens_per_shard = tokens_per_shard
        self.room = context - (bos_id is not None)
        """Tokens of text in a row."""
        self.n_rows = self.n_documents = self.dropped = 0
        self.largest_id = -1
        self.files: list[str] = []
        self._ids: list[NDArray[np.int32]] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._pending = 0

    def add(self, ids: Sequence[int]) -> None:
        """Append one document. Where it crosses the end of a row, it goes on in the next."""
        self._ids.append(np.asarray(ids, dtype=np.int32))
        self._numbers.append(np.full(len(ids), self.n_documents))
        self._pending += len(ids)
        self.n_documents += 1
        if self._pending >= self.tokens_per_shard:
            self._write()

    def close(self) -> None:
        """Write what is pending; the tail that does not fill a row is dropped, and counted in `dropped`."""
        self._write()
        self.dropped = self._pending

    def _write(self) -> None:
        n_rows = self._pending // self.room
        if n_rows == 0:
            return
        ids, numbers = np.concatenate(self._ids), np.concatenate(self._numbers)
        cut = n_rows * self.room
        tokens_NT = ids[:cut].reshape(n_rows, self.room)
        documents_NT = numbers[:cut].reshape(n_rows, self.room)
        segments_NT = (documents_NT - documents_NT[:, :1]).astype(np.int16)
        if self.bos_id is not None:
            tokens_NT = np.pad(tokens_NT, ((0, 0), (1, 0)), constant_values=self.bos_id)
            segments_NT = np.pad(segments_NT, ((0, 0), (1, 0)), constant_values=0)
        name = f"{self.split}-{len(self.files):05d}.safetensors"
        save_file({"tokens_NT": tokens_NT, "segments_NT": segments_NT}, self.folder / name)
        self.files.append(name)
        self.n_rows += n_rows
        self.largest_id = max(self.largest_id, int(tokens_NT.max()))
        self._ids, self._numbers, self._pending = [ids[cut:]], [numbers[cut:]], len(ids) - cut

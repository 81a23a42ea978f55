"""A dataset on disk: safetensors shards of packed rows, and `dataset.json`, which names their digests.

A shard holds `tokens_NT` [rows, context] int32 and `segments_NT` [rows, context] int16: the number, within its row, of
the document that a token belongs to. What was put first belongs to what follows; a separator ends its document.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clew.files import digest_of, file_sha256
from clew_spec.base import Digest
from clew_spec.datasets import Attention
from clew_spec.errors import DataError, InvalidSpec

MANIFEST_FILE = "dataset.json"
Split = Literal["train", "heldout"]


def positions_in(segments_BT: Tensor) -> Tensor:
    """How many tokens of its own segment come before each, int64, from the numbers of segments."""
    place_T = torch.arange(segments_BT.shape[1])
    begins_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    begins_BT[:, 1:] = segments_BT.diff(dim=1) != 0
    return place_T - torch.where(begins_BT, place_T, 0).cummax(1).values


class DatasetManifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["clew-dataset/1"] = "clew-dataset/1"
    digest: Digest = ""
    """sha256 over all that decides what a model is shown: the shards, tokenizer, context and first token."""
    tokenizer_digest: str
    context: int
    bos: str
    bos_id: int | None
    separator_id: int
    """Ends every document; the tokenizer's end of text."""
    attention: Attention = "row"
    """What a token attends to: its own `document`, whose positions count from 0, or all of its `row` before it."""
    train_tokens: int
    heldout_tokens: int
    n_documents: int
    n_heldout_documents: int
    largest_id: int
    seed: int
    heldout_fraction: float
    """Share of the documents, before paragraphs that both splits would hold are left out of one."""
    shared_tokens: dict[Split, int] = {}
    """Tokens left out of each split because the other was first to hold their passage."""
    source: dict[str, Any]
    """The source's spec, package versions, sha256 of the text."""
    files: dict[str, Digest]
    """Shards by name."""

    def signed(self) -> Self:
        return self.model_copy(update={"digest": self._digest()})

    def _digest(self) -> str:
        facts = {"tokenizer": self.tokenizer_digest, "context": self.context, "bos": self.bos, "bos_id": self.bos_id}
        if self.attention != "row":
            facts["attention"] = self.attention
        return digest_of({**self.files, MANIFEST_FILE: json.dumps(facts, sort_keys=True)})

    @property
    def shards(self) -> dict[str, list[str]]:
        return {split: sorted(name for name in self.files if name.startswith(split)) for split in ("train", "heldout")}


@dataclass(frozen=True)
class Batch:
    """Rows as a model is to read them."""

    tokens_BT: Tensor
    """int64"""
    positions_BT: Tensor | None = None
    """int64, from 0 in each document; None where a row is read as one text."""

    def __len__(self) -> int:
        return len(self.tokens_BT)

    @property
    def counted_BT(self) -> Tensor:
        """bool: which tokens are learnt from and measured. What a text begins with is an attention sink: never that."""
        if self.positions_BT is not None:
            return self.positions_BT > 0
        counted_BT = torch.ones_like(self.tokens_BT, dtype=torch.bool)
        counted_BT[:, 0] = False
        return counted_BT

    @property
    def predicting_BT(self) -> Tensor:
        """bool: which counted tokens another of the same text follows, which they are to predict."""
        counted_BT = self.counted_BT
        return counted_BT & counted_BT.roll(-1, 1)  # what a row begins with comes last, and is not counted

    def to(self, device: torch.device) -> Self:
        positions_BT = None if self.positions_BT is None else self.positions_BT.to(device, non_blocking=True)
        return type(self)(self.tokens_BT.to(device, non_blocking=True), positions_BT)

    def pin_memory(self) -> Self:
        """Where CUDA can copy it without waiting."""
        positions_BT = None if self.positions_BT is None else self.positions_BT.pin_memory()
        return type(self)(self.tokens_BT.pin_memory(), positions_BT)

    def parts(self, rows: int) -> Iterator[Self]:
        """At most so many rows at a time."""
        for start in range(0, len(self), rows):
            these = slice(start, start + rows)
            yield type(self)(self.tokens_BT[these], None if self.positions_BT is None else self.positions_BT[these])


@dataclass(frozen=True)
class Rows:
    """Packed rows of one split, read from disk as they are asked for."""

    tokens_NT: tuple[Tensor, ...]
    segments_NT: tuple[Tensor, ...]
    attention: Attention = "row"

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.tokens_NT)

    @property
    def context(self) -> int:
        return self.tokens_NT[0].shape[1]

    def __getitem__(self, rows: Sequence[int] | slice) -> Tensor:
        """Token ids [len(rows), context] int64."""
        return self._take(self.tokens_NT, rows).long()

    def batch(self, rows: Sequence[int] | slice) -> Batch:
        """Rows as a model is to read them."""
        if self.attention == "row":
            return Batch(self[rows])
        return Batch(self[rows], positions_in(self.segments(rows)))

    def spread(self, tokens: int) -> list[int]:
        """Numbers of as many rows as hold `tokens`, rounded up to whole rows (or all), evenly over the split."""
        n_rows = min(len(self), math.ceil(tokens / self.context))
        return [i * len(self) // n_rows for i in range(n_rows)]

    def segments(self, rows: Sequence[int] | slice) -> Tensor:
        """Number of each token's document within its row, [len(rows), context] int16."""
        return self._take(self.segments_NT, rows)

    def _take(self, shards: tuple[Tensor, ...], rows: Sequence[int] | slice) -> Tensor:
        wanted = range(len(self))[rows] if isinstance(rows, slice) else rows
        return torch.stack([self._row(shards, row) for row in wanted])

    def _row(self, shards: tuple[Tensor, ...], row: int) -> Tensor:
        for shard in shards:
            if row < len(shard):
                return shard[row]
            row -= len(shard)
        raise IndexError(row)


@dataclass(frozen=True)
class Dataset:
    manifest: DatasetManifest
    train: Rows
    heldout: Rows

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Check and map the shards in `folder`.

        Raises:
            DataError: a file is missing, or is not what the manifest says.
        """
        manifest = _read_manifest(folder)
        for name, digest in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise DataError(f"the dataset in {folder.name} has no {name}", expected=", ".join(manifest.files))
            if (found := file_sha256(path)) != digest:
                raise DataError(f"{name} of the dataset was changed or cut short: sha256 {found}", expected=digest)
        splits = {split: _read_rows(folder, names, manifest) for split, names in manifest.shards.items()}
        return cls(manifest, **splits)

    def check_fits(self, *, tokenizer_digest: str, vocab_size: int, max_context: int) -> None:
        """Raises InvalidSpec where a model with this tokenizer, vocabulary and context cannot read these rows."""
        manifest = self.manifest
        if manifest.tokenizer_digest != tokenizer_digest:
            raise InvalidSpec(
                f"the dataset was made with another tokenizer than the model's ({manifest.tokenizer_digest[:12]})",
                where="/spec/dataset",
                expected=f"a dataset made with the tokenizer {tokenizer_digest[:12]}",
                hint="build the dataset anew for this model",
            )
        if manifest.largest_id >= vocab_size:
            raise InvalidSpec(
                f"the dataset holds the token id {manifest.largest_id}",
                where="/spec/dataset",
                expected=f"ids below the model's vocabulary size {vocab_size}",
            )
        if manifest.context > max_context:
            raise InvalidSpec(
                f"the dataset's rows are {manifest.context} tokens long",
                where="/spec/dataset",
                expected=f"at most the model's context of {max_context}",
            )


def _read_manifest(folder: Path) -> DatasetManifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise DataError(f"{folder.name} is not a dataset: it has no {MANIFEST_FILE}")
    try:
        manifest = DatasetManifest.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{MANIFEST_FILE} in {folder.name} cannot be read: {error}") from error
    if manifest.signed() != manifest:
        raise DataError(
            f"{MANIFEST_FILE} in {folder.name} contradicts itself", expected=f"digest {manifest.signed().digest}"
        )
    return manifest


def _read_rows(folder: Path, names: Sequence[str], manifest: DatasetManifest) -> Rows:
    try:
        shards = [load_file(folder / name) for name in names]
    except SafetensorError as error:
        raise DataError(f"a shard of the dataset in {folder.name} cannot be read: {error}") from error
    rows = Rows(
        tuple(each["tokens_NT"] for each in shards), tuple(each["segments_NT"] for each in shards), manifest.attention
    )
    if not len(rows) or any(shard.shape[1] != manifest.context for shard in (*rows.tokens_NT, *rows.segments_NT)):
        raise DataError(f"shards of the dataset in {folder.name} are empty or not {manifest.context} tokens wide")
    return rows

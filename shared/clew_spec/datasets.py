"""Turn text into packed token rows."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from clew_spec.base import Name, Ref, Seed, Spec

PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
HubRepo = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
]
HubConfig = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
HubSplit = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,3}$")]
HubRevision = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")
]


class PydocSource(Spec):
    """Docstrings of installed Python packages, read by `ast`: nothing is imported or run."""

    kind: Literal["pydoc"] = "pydoc"
    packages: list[PackageName] = Field(default=["torch", "transformers", "numpy", "sqlalchemy"], min_length=1)
    """Import names of packages installed beside the worker."""


class FileSource(Spec):
    """What all sources on the worker's disk have."""

    endings: ClassVar[tuple[str, ...]]
    """Files of a folder that end otherwise are no part of the source."""

    path: str = Field(min_length=1, max_length=4096)
    """A file, or a folder of files, on the worker's disk, under one of `CLEW_IMPORT_ROOTS`; or `upload:NAME`, with the
    name of a file or folder of it behind where not all is meant."""


class TextSource(FileSource):
    """Files of plain UTF-8 text: `.txt`, `.txt.gz` or `.txt.zst`."""

    endings = (".txt", ".txt.gz", ".txt.zst")

    kind: Literal["text"] = "text"
    separator: str | None = Field(default=None, max_length=256, pattern=r"^(\S([^\r\n]*\S)?)?$")
    """The line that ends a document, as `<|endoftext|>`; empty for a blank line. If not given, a file is a document."""


class JsonlSource(FileSource):
    """Files with a JSON object on every line: `.jsonl`, `.jsonl.gz` or `.jsonl.zst`."""

    endings = (".jsonl", ".jsonl.gz", ".jsonl.zst")

    kind: Literal["jsonl"] = "jsonl"
    field: FieldName = "text"
    """The name of the field, or column, that holds a document's text."""


class ParquetSource(FileSource):
    """Parquet files with a column of text: `.parquet`."""

    endings = (".parquet",)

    kind: Literal["parquet"] = "parquet"
    field: FieldName = "text"
    """The name of the field, or column, that holds a document's text."""


class HubSource(Spec):
    """A dataset on the Hugging Face hub, streamed; nothing of it is run."""

    kind: Literal["hf"] = "hf"
    repo: HubRepo
    """`owner/name` on the hub."""
    config: HubConfig | None = None
    """The dataset's configuration, where it has several."""
    split: HubSplit = "train"
    revision: HubRevision | None = None
    """A branch, tag or commit; the newest commit if not given. Which commit it was is recorded."""
    field: FieldName = "text"
    """The name of the field, or column, that holds a document's text."""
    shuffle_buffer: int = Field(default=1000, ge=0, le=100_000)
    """Documents among which the next one is drawn, by the seed; 0 for the dataset's own order."""


def _pydoc_unless_told(value: Any) -> Any:
    return {"kind": "pydoc", **value} if isinstance(value, dict) and "kind" not in value else value


Source = Annotated[
    PydocSource | TextSource | JsonlSource | ParquetSource | HubSource,
    Field(discriminator="kind"),
    BeforeValidator(_pydoc_unless_told),
]

Attention = Literal["document", "row"]


class BuildDatasetSpec(Spec):
    kind: Literal["build-dataset"] = "build-dataset"
    name: Name
    model: Ref
    """Whose tokenizer to use."""
    source: Source = PydocSource()
    context: int = Field(default=256, ge=8, le=8192)
    """Tokens in a packed row."""
    bos: str = Field(default="none", min_length=1, max_length=64)
    """What stands first in every row: `none`, `bos` (the tokenizer's own), or a token's text."""
    attention: Attention = "document"
    """What a token attends to: its own `document`, or all of its `row` before it. The first token of each is an
    attention sink, never learnt from and never counted; `bos` stands first in each."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Stop after this many tokens, held-out ones included; all of the text if not given."""
    heldout_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of the documents that training never sees."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _a_hub_is_too_large_to_read(self) -> Self:
        if isinstance(self.source, HubSource) and self.max_tokens is None:
            raise ValueError("source.kind = hf needs max_tokens: say how much of the hub's dataset to read")
        return self

"""Where text comes from: one file for each `kind` of source."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from clew.data.sources.files import Files
from clew.data.sources.jsonl import read_jsonl
from clew.data.sources.parquet import read_parquet
from clew.data.sources.pydoc import Pydoc
from clew.data.sources.source import Document, Source
from clew.data.sources.text import read_text
from clew_spec import datasets as spec

__all__ = ["Document", "Source", "open_source"]


def open_source(source: spec.Source, import_roots: Sequence[Path], path: Path | None = None) -> Source:
    """What `source` describes, found but not yet read. path: where its files lie, if not at `source.path`.

    Raises InvalidSpec, DataError.
    """
    if isinstance(source, spec.FileSource) and path is not None:
        source = source.model_copy(update={"path": str(path)})
    match source:
        case spec.PydocSource():
            return Pydoc(source)
        case spec.TextSource():
            return Files(source, import_roots, partial(read_text, spec=source))
        case spec.JsonlSource():
            return Files(source, import_roots, partial(read_jsonl, spec=source))
        case spec.ParquetSource():
            return Files(source, import_roots, partial(read_parquet, spec=source))
        case spec.HubSource():
            from clew.data.sources.hub import Hub  # `datasets` is there only where the extra `hub` is installed

            return Hub(source)

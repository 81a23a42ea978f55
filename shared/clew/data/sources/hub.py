"""A dataset on the Hugging Face hub, streamed by the `datasets` library. Needs the extra `hub`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from clew.data.sources.source import Text, field_of, no_field, texts
from clew.hub import ANSWER_S, asked
from clew_spec.datasets import HubSource
from clew_spec.errors import DataError

try:
    import datasets
    from huggingface_hub import HfApi
except ImportError as error:
    raise DataError(
        "the library `datasets` is not installed beside the worker",
        where="/spec/source/kind",
        hint="install Clew with the extra `hub`, or copy the files and name them by `path`",
    ) from error

WHERE = "/spec/source"
FORMATS = frozenset({"arrow", "csv", "json", "parquet", "text"})
"""Formats that are read as data. Others of the library unpack archives, decode media or read pickles."""


class Hub:
    """The documents of a split, in the dataset's order or drawn by the seed from a buffer, as the library does it.

    The library from version 4 on runs no code of a dataset. What the worker's own login shows, all can read. The
    revision is resolved to a commit once, before anything is read.

    Raises:
        DataError: the hub does not answer, or shows no such dataset, revision, configuration or split.
    """

    def __init__(self, spec: HubSource) -> None:
        self.spec = spec
        self.title = f"the field `{spec.field}` of {spec.repo}"
        self._read = 0
        with _asked(spec):
            self.commit = HfApi().dataset_info(spec.repo, revision=spec.revision, timeout=ANSWER_S).sha

    def documents(self, seed: int) -> Iterator[Text]:
        spec = self.spec
        with _asked(spec):
            stream = self._stream()
            if spec.shuffle_buffer:
                stream = stream.shuffle(seed=seed, buffer_size=spec.shuffle_buffer)
            for number, record in enumerate(stream):
                self._read += 1
                name = f"{spec.repo}:{number}"
                yield from texts(name, field_of(record, spec.field, name))

    def progress(self) -> tuple[float, float, str]:
        return self._read, self._read, "documents"

    def facts(self) -> dict[str, Any]:
        return {"commit": self.commit, "documents_read": self._read, "datasets": datasets.__version__}

    def _stream(self) -> Any:
        spec = self.spec
        # With `hf://`, a folder of the same name on the disk is not taken for the dataset. The library refuses files
        # that are not the dataset's own, whatever its card names.
        builder = datasets.load_dataset_builder(f"hf://datasets/{spec.repo}", spec.config, revision=self.commit)
        if builder.name not in FORMATS:
            raise DataError(
                f"the files of {spec.repo} are of the format {builder.name}",
                where=f"{WHERE}/repo",
                expected=", ".join(sorted(FORMATS)),
            )
        stream = builder.as_streaming_dataset(split=spec.split)
        columns = stream.column_names
        if columns is None:
            return stream
        if spec.field not in columns:
            raise no_field(spec.field, columns, spec.repo)
        return stream.select_columns([spec.field])


def _asked(spec: HubSource) -> AbstractContextManager[None]:
    return asked(
        spec.repo,
        spec.revision,
        kind="dataset",
        where=lambda part: f"{WHERE}/{part}" if part else WHERE,
        error=DataError,
    )

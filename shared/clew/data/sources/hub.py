"""A dataset on the Hugging Face hub, streamed by the `datasets` library. Needs the extra `hub`."""

from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror
from typing import Any

from clew.data.sources.source import Text, field_of, no_field, texts
from clew_spec.datasets import HubSource
from clew_spec.errors import DataError

try:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
except ImportError as error:
    raise DataError(
        "the library `datasets` is not installed beside the worker",
        where="/spec/source/kind",
        hint="install Clew with the extra `hub`, or copy the files and name them by `path`",
    ) from error

WHERE = "/spec/source"
FORMATS = frozenset({"arrow", "csv", "json", "parquet", "text"})
"""Formats that are read as data. Others of the library unpack archives, decode media or read pickles."""
ANSWER_S = 30
MAX_SAID = 300


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
        with _told(spec):
            self.commit = HfApi().dataset_info(spec.repo, revision=spec.revision, timeout=ANSWER_S).sha

    def documents(self, seed: int) -> Iterator[Text]:
        spec = self.spec
        with _told(spec):
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


@contextmanager
def _told(spec: HubSource) -> Iterator[None]:
    """Whatever the library raises, as a DataError that says whose fault it is."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:
        raise _problem(spec, error) from error


def _problem(spec: HubSource, error: BaseException) -> DataError:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    # The HTTP library's own errors are known by the name of their base: which library it is changes with the hub's.
    no_transport = any(kind.__name__ == "TransportError" for cause in causes for kind in type(cause).__mro__)
    said = str(error).splitlines()[0][:MAX_SAID] if str(error) else type(error).__name__

    if any_is(OfflineModeIsEnabled):
        return DataError(
            "this worker asks no hub: HF_HUB_OFFLINE is set",
            where=f"{WHERE}/kind",
            hint="set CLEW_HF_OFFLINE=false for the worker, or copy the files and name them by `path`",
        )
    if any_is(GatedRepoError) or (any_is(DatasetNotFoundError) and "gated" in said):
        return DataError(
            f"{spec.repo} is gated: the hub gives it only to accounts that its owners let in",
            where=f"{WHERE}/repo",
            hint="ask for access, and log the worker in with a token of that account",
        )
    if any_is(RevisionNotFoundError):
        return DataError(f"{spec.repo} has no revision {spec.revision}", where=f"{WHERE}/revision")
    if any_is(RepositoryNotFoundError, DatasetNotFoundError):
        return DataError(
            f"the hub shows this worker no dataset {spec.repo}: there is none, or it is private",
            where=f"{WHERE}/repo",
            hint="check the name; for a private dataset log the worker in with a token that may read it",
        )
    statuses = [cause.response.status_code for cause in causes if isinstance(cause, HfHubHTTPError)]
    if statuses and (statuses[0] >= 500 or statuses[0] in (408, 429)):
        return DataError(f"the hub answers {statuses[0]} for {spec.repo}", where=WHERE, hint="try again later")
    if no_transport or any_is(ConnectionError, TimeoutError, gaierror):
        return DataError(
            f"the hub did not answer when {spec.repo} was read: {said}",
            where=WHERE,
            hint="check the worker's network; or copy the files and name them by `path`",
        )
    return DataError(f"{spec.repo} cannot be read: {said}", where=WHERE)

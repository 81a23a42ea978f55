"""Parquet files with a column of text."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from clew.data.sources.files import UNFOLDED_TIMES, WHERE, SourceFile
from clew.data.sources.source import Text, no_field, texts
from clew_spec.datasets import ParquetSource
from clew_spec.errors import DataError

ROWS_AT_A_TIME = 256
MAX_FOOTER = 2**26
"""Bytes of a text, and entries of a list, in what a file says of itself."""
MAX_GROUP = 2**29
"""Bytes of the column in a group of rows, where they are packed denser than text is: more is not unfolded."""


def read_parquet(file: SourceFile, spec: ParquetSource) -> Iterator[Text]:
    """A document for every row that holds text, read by record batches of the one column.

    As a dictionary: a value that a small file repeats without end lies in memory once.
    """
    try:
        limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": MAX_FOOTER}
        with pq.ParquetFile(file.path, pre_buffer=False, **limits) as parquet:
            _check_column(file, parquet.schema_arrow, spec.field)
            _check_groups(file, parquet.metadata, spec.field)
        with pq.ParquetFile(file.path, pre_buffer=False, read_dictionary=[spec.field], **limits) as parquet:
            row, rows = 0, parquet.metadata.num_rows
            for batch in parquet.iter_batches(batch_size=ROWS_AT_A_TIME, columns=[spec.field], use_threads=False):
                for value in batch.column(0):
                    text = value.as_py() or ""
                    file.unfold(len(text))
                    yield from texts(f"{file.name}:{row}", text)
                    row += 1
                file.at = file.size * row // max(row, rows)
        if row != rows:
            raise DataError(f"{file.name} says that it has {rows} rows, and has {row}", where=WHERE)
    except pa.ArrowException as error:
        raise DataError(f"{file.name} is damaged, or not parquet: {error}", where=WHERE) from error


def _check_groups(file: SourceFile, metadata: pq.FileMetaData, field: str) -> None:
    """What a group of rows holds of the column is unfolded at once, or nearly."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    for column in (group.column(index) for group in groups for index in range(group.num_columns)):
        unfolded = column.total_uncompressed_size
        if (
            column.path_in_schema == field
            and unfolded > MAX_GROUP
            and unfolded > UNFOLDED_TIMES * column.total_compressed_size
        ):
            raise DataError(
                f"{file.name} unfolds to more than {UNFOLDED_TIMES} times its size: `{field}` has {unfolded} bytes in "
                "one group of rows",
                where=WHERE,
                expected=f"groups of {MAX_GROUP} bytes at most, or text that is less dense",
            )


def _check_column(file: SourceFile, schema: pa.Schema, field: str) -> None:
    if field not in schema.names:
        raise no_field(field, schema.names, file.name)
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(
            f"the column `{field}` of {file.name} holds {kind}",
            where="/spec/source/field",
            expected="a column of strings",
        )

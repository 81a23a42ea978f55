"""Parquet files with a column of text."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from clew.data.sources.files import WHERE, SourceFile
from clew.data.sources.source import Text, no_field, texts
from clew_spec.datasets import ParquetSource
from clew_spec.errors import DataError

ROWS_AT_A_TIME = 256


def read_parquet(file: SourceFile, spec: ParquetSource) -> Iterator[Text]:
    """A document for every row that holds text, read by record batches of the one column."""
    try:
        with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
            _check_column(file, parquet.schema_arrow, spec.field)
            row, rows = 0, parquet.metadata.num_rows
            for batch in parquet.iter_batches(batch_size=ROWS_AT_A_TIME, columns=[spec.field], use_threads=False):
                for text in batch.column(0).to_pylist():
                    yield from texts(f"{file.name}:{row}", text or "")
                    row += 1
                file.at = file.size * row // rows
    except pa.ArrowException as error:
        raise DataError(f"{file.name} is damaged, or not parquet: {error}", where=WHERE) from error


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

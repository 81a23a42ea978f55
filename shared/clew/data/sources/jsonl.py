"""Files with a JSON object on every line."""

import json
from collections.abc import Iterator

from clew.data.sources.files import WHERE, SourceFile
from clew.data.sources.lines import lines
from clew.data.sources.source import Text, field_of, texts
from clew_spec.datasets import JsonlSource
from clew_spec.errors import DataError

MAX_LINE = 2**26
"""Characters; a longer line is no JSON line but a file of another kind."""


def read_jsonl(file: SourceFile, spec: JsonlSource) -> Iterator[Text]:
    """A document for every line that holds text. Blank lines are passed over."""
    for number, line in enumerate(lines(file, longest=MAX_LINE), start=1):
        name = f"{file.name}:{number}"
        if len(line) == MAX_LINE:
            raise DataError(f"{name} is longer than {MAX_LINE} characters", where=WHERE)
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{name} is not JSON: {error}", where=WHERE, expected="a JSON object on every line"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{name} is JSON, but no object", where=WHERE, expected="a JSON object on every line")
        yield from texts(name, field_of(record, spec.field, name))

"""Plain text files."""

from collections.abc import Iterator

from clew.data.sources.files import SourceFile
from clew.data.sources.lines import lines
from clew.data.sources.source import MAX_CHARACTERS, Text, texts
from clew_spec.datasets import TextSource


def read_text(file: SourceFile, spec: TextSource) -> Iterator[Text]:
    """The documents of a file: all of it, or what lies between the lines that are `spec.separator`.

    Line ends become `\\n`. A document is named by its file and, where a file may have several, its first line.
    """
    parts: list[str] = []
    characters = 0
    first = number = 1
    whole_line = True
    for line in lines(file, longest=MAX_CHARACTERS):
        is_separator = spec.separator is not None and whole_line and line.rstrip() == spec.separator
        if is_separator or characters + len(line) > MAX_CHARACTERS:
            yield from _document(file, spec, first, parts)
            parts, characters, first = [], 0, number + is_separator
        if not is_separator:
            parts.append(line)
            characters += len(line)
        whole_line = line.endswith("\n")
        number += whole_line
    yield from _document(file, spec, first, parts)


def _document(file: SourceFile, spec: TextSource, first: int, parts: list[str]) -> Iterator[Text]:
    text = "".join(parts).replace("\r\n", "\n").strip("\n")
    yield from texts(file.name if spec.separator is None and first == 1 else f"{file.name}:{first}", text)

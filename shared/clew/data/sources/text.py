"""Plain text files."""

from collections.abc import Iterator

from clew.data.sources.files import SourceFile
from clew.data.sources.lines import lines
from clew.data.sources.source import MAX_CHARACTERS, Text, texts
from clew_spec.datasets import TextSource


def read_text(file: SourceFile, spec: TextSource) -> Iterator[Text]:
    """The documents of a file, which are named by their numbers in it: what lies between the lines that are
    `spec.separator`, or all of it. Line ends become `\\n`; a separator may have white space after it."""
    for number, text in enumerate(_texts(file, spec.separator), start=1):
        yield from texts(f"{file.name}:{number}", text.replace("\r\n", "\n").strip("\n"))


def _texts(file: SourceFile, separator: str | None) -> Iterator[str]:
    parts: list[str] = []
    characters = 0
    at_line_start = True
    for line in lines(file, longest=MAX_CHARACTERS):
        ends = separator is not None and at_line_start and line.rstrip() == separator
        if ends or characters + len(line) > MAX_CHARACTERS:
            yield "".join(parts)
            parts, characters = [], 0
        if not ends:
            parts.append(line)
            characters += len(line)
        at_line_start = line.endswith("\n")
    yield "".join(parts)

"""What a source of text gives: documents, how far it is read, and facts to record."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clew_spec.errors import DataError

MAX_CHARACTERS = 2**22
"""Longer texts become several documents: about a million tokens are as much as is tokenised at once."""
NO_HEADING = -1
MAX_NAMES = 20
PARAGRAPHS = re.compile(r"\n(?:[^\S\n]*\n)+")
LINES = re.compile(r"\n+")


class Document(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def draw(self) -> float:
        """In [0, 1), uniform over contents, and of nothing but the content: it decides the split."""

    def units(self) -> tuple[list[int], list[int]]:
        """Where in the text each unit begins that may be left out alone, and the number of its heading's unit."""


class Source(Protocol):
    @property
    def title(self) -> str:
        """What is read, for messages."""

    def documents(self, seed: int) -> Iterator[Document]:
        """All documents, in an order that `seed` decides, in bounded memory. Raises DataError for what is no text."""

    def progress(self) -> tuple[float, float, str]:
        """How much is read, of how much, in which unit."""

    def facts(self) -> dict[str, Any]:
        """What the manifest records beside the spec, once reading has ended."""


@dataclass(frozen=True)
class Text:
    """A document without headings: its units are its paragraphs, or its lines where no line is blank."""

    name: str
    text: str

    @property
    def draw(self) -> float:
        return draw_of(self.text)

    def units(self) -> tuple[list[int], list[int]]:
        gaps = [*PARAGRAPHS.finditer(self.text)] or [*LINES.finditer(self.text)]
        starts = [0, *(gap.start() for gap in gaps)]
        return starts, [NO_HEADING] * len(starts)


def texts(name: str, text: str) -> Iterator[Text]:
    """`text` as one document, as several where it is too long, as none where it is blank."""
    text = unicode(text)
    for start in range(0, len(text), MAX_CHARACTERS):
        piece = text[start : start + MAX_CHARACTERS]
        if piece.strip():
            yield Text(name if len(text) <= MAX_CHARACTERS else f"{name}+{start}", piece)


def unicode(text: str) -> str:
    """Without lone surrogates, which no tokenizer takes."""
    return text.encode(errors="ignore").decode()


def draw_of(content: str) -> float:
    """The first 48 bits of its sha256, as a fraction."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:6], "big") / 2**48


def field_of(record: Mapping[str, Any], field: str, name: str) -> str:
    """The text in a record's field; empty where it is null. Raises DataError where there is no field, or no text."""
    if field not in record:
        raise no_field(field, record, name)
    text = record[field]
    if not isinstance(text, str | None):
        raise DataError(
            f"the field `{field}` of {name} holds no text but {type(text).__name__}",
            where="/spec/source/field",
            expected="a string or null",
        )
    return text or ""


def no_field(field: str, there: Iterable[str], name: str) -> DataError:
    names = sorted(map(str, there))
    shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
    return DataError(
        f"{name} has no field `{field}`", where="/spec/source/field", expected=f"one of its fields: {shown}"
    )

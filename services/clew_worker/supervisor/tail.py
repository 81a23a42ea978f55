"""Read the events that a runner appends to its file."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clew_spec.errors import ClewError
from clew_spec.runner import Event

EVENT: TypeAdapter[Any] = TypeAdapter(Event)
MAX_LINE_BYTES = 64 * 2**20
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""The escape in JSON, and not the letters `u0000` after a backslash that is itself escaped."""


HIDDEN = "***"


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without these."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


class ProtocolError(ClewError):
    """The runner did not speak as agreed: nothing it says can be trusted any more."""

    code = "runner-protocol"
    title = "The runner spoke nonsense"


class Tail:
    """New complete lines of a growing file; a line that is still being written waits for its end.

    No string in them holds NUL, which Postgres cannot store: tokens of real vocabularies do, and prompts may. Nor does
    any hold a secret that the runner was given: an error may quote the header it was refused with.
    """

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self._path = path
        self._secrets = [json.dumps(secret)[1:-1] for secret in secrets]
        self._offset = 0
        self._partial = b""
        self._next = 0

    def read(self) -> list[Any]:
        """Events since the last call. Raises `ProtocolError` for a line that is none, or a number out of order."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(fresh)
        *lines, self._partial = (self._partial + fresh).split(b"\n")
        if len(self._partial) > MAX_LINE_BYTES:
            raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return [self._event(line) for line in lines]

    def _event(self, line: bytes) -> Any:
        try:
            line = hidden(line.decode(errors="replace"), self._secrets).encode() if self._secrets else line
            event = EVENT.validate_json(_NUL.sub(rb"\1\\ufffd", line))
        except ValidationError as error:
            raise ProtocolError(
                f"event {self._next} is not one: {error.errors(include_input=False)[0]['msg']}"
            ) from error
        if event.n != self._next:
            raise ProtocolError(f"event {event.n} came where {self._next} was due")
        self._next += 1
        return event

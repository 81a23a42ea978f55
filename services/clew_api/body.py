"""Reads a JSON body. Asked for as a dependency, it comes after the key was checked, and knows what it validated."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError

from clew_api.lab import Lab
from clew_api.problems import TooLarge, UnsupportedMediaType
from clew_spec.errors import InvalidSpec, from_problem
from clew_spec.validation import pointer, problem_of_validation

M = TypeVar("M", bound=BaseModel)

SMALL_BYTES = 2**15
"""Most bodies have no business to be larger. One that may be is parsed in a thread where it is."""
MAX_BYTES = 2**20
"""Of a job, or of an upload with its files."""
MAX_BATCH_BYTES = 2**23
"""Of many jobs in one request."""
MAX_DEPTH = 32
MAX_VALUES = 2**19
"""Fifty for each job of the largest sweep."""
MAX_ERRORS = 20_000
"""That are told one by one: to list them is one step of pydantic's, during which no other thread runs."""


def body_of(model: type[M], max_bytes: int = SMALL_BYTES) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the body as `model`, strictly.

    Raises `UnsupportedMediaType` (415), `TooLarge` (413), `InvalidSpec` (422).
    """

    async def read(request: Request) -> M:
        content = await _bytes(request, max_bytes)
        if len(content) <= SMALL_BYTES:
            return parse(content, model)  # sooner than a thread would begin
        lab: Lab = request.app.state.lab
        return await anyio.to_thread.run_sync(parse, content, model, limiter=lab.parsing)

    return read


def declared_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra=` of a route that has such a body; `clew_api.openapi` adds the schema itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def parse(content: bytes, model: type[M]) -> M:
    """Raises `InvalidSpec` for everything that is not plain, finite, storable JSON of the model's shape, `TooLarge` for
    more values than anything asked for has."""
    # Each value stands behind one of these, so there are no more values; in texts they are rare enough.
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise TooLarge("the body has too many values", expected=f"at most {MAX_VALUES:,}")
    try:
        value = json.loads(content.decode(), parse_constant=_not_finite, object_pairs_hook=_distinct)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # not UTF-8, not JSON, a number of too many digits
        raise InvalidSpec(f"the body is not JSON: {error}", where="", expected="a JSON object") from None
    _check(value)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        if (count := error.error_count()) > MAX_ERRORS:
            raise InvalidSpec(f"{count:,} values of the body are wrong", where="") from None
        raise from_problem(problem_of_validation(error.errors(include_url=False), model)) from None


async def _bytes(request: Request, max_bytes: int) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(f"the body is {media_type or 'of no stated type'}", expected="application/json")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise TooLarge("the body is too large", expected=f"at most {max_bytes} bytes")
    return bytes(content)


def _check(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Refuses what would fail later: depth, NUL and lone surrogates (no database stores them), overflowing floats."""
    if len(path) > MAX_DEPTH:
        raise _too_deep()
    match value:
        case dict():
            for key, inner in value.items():
                _check_text(key, path)
                _check(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                _check(inner, (*path, index))
        case str():
            _check_text(value, path)
        case float() if value in (float("inf"), float("-inf")):
            raise InvalidSpec("the number is too large", where=pointer(path), expected="a finite number")


def _check_text(text: str, path: tuple[str | int, ...]) -> None:
    if "\0" in text:
        raise InvalidSpec("the text has a NUL character", where=pointer(path), expected="text without NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidSpec("the text is not Unicode", where=pointer(path), expected="no lone surrogates") from None


def _too_deep() -> InvalidSpec:
    return InvalidSpec("the body is nested too deeply", where="", expected=f"at most {MAX_DEPTH} levels")


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the field {key!r} is given twice")
        found[key] = value
    return found

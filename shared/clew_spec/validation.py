"""What pydantic found wrong, as a `Problem` that points into the request."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from clew_spec.errors import InvalidSpec, Problem

MAX_LISTED = 50
MAX_SHOWN = 80
_RELATION = re.compile(r"([a-z_]+(?:\.[a-z_]+)*) = ")


def problem_of_validation(errors: Sequence[ErrorDetails], body: type[BaseModel] | None = None) -> Problem:
    """One problem that says the first error and lists all of them (at most 50) where there are several.

    Args:
        errors: of pydantic; the locations begin with `query`, `path` or `header` unless `body` is given.
        body: the model that was validated; then locations begin inside it.
    """
    found = [_one(error, body) for error in errors[:MAX_LISTED]]
    first = found[0].model_copy()
    if len(found) > 1:
        first.errors = found
    return first


def pointer(parts: Iterable[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _one(error: ErrorDetails, body: type[BaseModel] | None) -> Problem:
    parts, owner = _locate(error["loc"], body)
    context = error.get("ctx", {})
    name = str(parts[-1]) if parts else "the body"
    expected: str | None = _expected(error["msg"])
    hint = None
    match error["type"]:
        case "missing":
            detail, expected = f"`{name}` is missing", f"a value for `{name}`"
        case "extra_forbidden":
            known = sorted(owner.model_fields) if owner else []
            near = difflib.get_close_matches(name, known, n=1)
            detail, expected = f"`{name}` is not known here", f"one of {', '.join(known)}" if known else None
            hint = f"did you mean `{near[0]}`?" if near else None
        case "union_tag_invalid":
            field = context["discriminator"].strip("'")
            parts = [*parts, field]
            detail, expected = f"`{field}` is {_shown(context['tag'])}", f"one of {context['expected_tags']}"
        case "union_tag_not_found":
            field = context["discriminator"].strip("'")
            parts = [*parts, field]
            detail, expected = f"`{field}` is missing", "the kind of thing that is asked for"
        case "value_error":
            detail, expected = error["msg"].removeprefix("Value error, "), None
            parts = [*parts, *_relation(detail, error["input"])]
        case _:
            detail = f"`{name}` is {_shown(error['input'])}"
    return InvalidSpec(detail, where=pointer(parts), expected=expected, hint=hint).problem()


def _locate(
    location: Sequence[str | int], body: type[BaseModel] | None
) -> tuple[list[str | int], type[BaseModel] | None]:
    """The location without the tags of unions, which are no part of the JSON; and the model that owns its last part."""
    parts: list[str | int] = []
    here: Any = body
    owner: type[BaseModel] | None = None
    rest = iter(location)
    for part in rest:
        parts.append(part)
        owner = here if isinstance(here, type) and issubclass(here, BaseModel) else None
        field = owner.model_fields.get(str(part)) if owner else None
        if field is None:
            inside = get_args(here)[1:] if get_origin(here) is dict else get_args(here) if isinstance(part, int) else ()
            here = next(iter(inside), None)
        elif isinstance(field.discriminator, str):
            here = _member(field.annotation, field.discriminator, next(rest, None))
        else:
            here = field.annotation
    return parts, owner


def _member(union: Any, discriminator: str, tag: str | int | None) -> Any:
    for member in get_args(union):
        if member is not type(None) and tag in get_args(member.model_fields[discriminator].annotation):
            return member
    return None


def _relation(detail: str, given: Any) -> list[str]:
    """A rule between fields says `inner.field = 5 is ...`: then the fault lies there."""
    said = _RELATION.match(detail)
    path = said.group(1).split(".") if said else []
    for part in path:
        if not isinstance(given, dict) or part not in given:
            return []
        given = given[part]
    return path


def _expected(message: str) -> str:
    for beginning in ("Input should be ", "Input should ", "Value should have ", "String should "):
        if message.startswith(beginning):
            return message.removeprefix(beginning)
    return message


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    text = text or repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."

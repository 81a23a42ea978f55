"""Command-line flags from the fields of a spec, and a spec from flags.

A field is `--name`, one inside another `--coder.activation.k`. A list's flag may be given again and again; lists of
numbers also take `0-9,12`.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clew_spec.errors import InvalidSpec

MAX_NUMBERS = 100_000


@dataclass(frozen=True)
class Flag:
    path: tuple[str, ...]
    """Field names from the spec down."""
    type: Any
    """What typer reads: a scalar, a Literal, or a list of strings that `read` takes apart."""
    read: Callable[[Any], Any]
    required: bool
    default: str | None
    help: str
    metavar: str | None = None

    @property
    def option(self) -> str:
        return "--" + ".".join(self.path).replace("_", "-")

    @property
    def refusal(self) -> str:
        """What says no where the flag says yes."""
        return f"--no-{self.option[2:]}"

    @property
    def described(self) -> str:
        """Help and default."""
        return f"{self.help} [default: {self.default}]".strip() if self.default else self.help

    @property
    def parameter(self) -> str:
        return "__".join(self.path)


def flags_of(spec: type[BaseModel]) -> list[Flag]:
    """A flag for every field of `spec` and of the specs inside it, but the `kind` at the top, which is given.

    Lists of specs have none: they are written in a file."""
    found: dict[tuple[str, ...], Flag] = {}
    for flag in _flags(spec, (), {name: field.default for name, field in spec.model_fields.items()}):
        if flag.path == ("kind",):
            continue
        other = found.setdefault(flag.path, flag)
        if get_origin(flag.type) is Literal and other.type != flag.type:  # `kind` in two members of a union
            choices = (*get_args(other.type), *get_args(flag.type))
            found[flag.path] = replace(other, type=Literal[choices], default=other.default or flag.default)
    return list(found.values())


def parameters(flags: list[Flag]) -> list[inspect.Parameter]:
    """What a typer command that takes `flags` has in its signature."""
    return [
        inspect.Parameter(
            flag.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if flag.required else None,
            annotation=Annotated[
                flag.type if flag.required else flag.type | None,
                typer.Option(
                    f"{flag.option}/{flag.refusal}" if flag.type is bool else flag.option,
                    help=flag.described,
                    metavar=flag.metavar,
                    show_default=False,
                ),
            ],
        )
        for flag in flags
    ]


def nested(flags: list[Flag], values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec's fields from a command's `values`; flags that were not given are left to the spec's defaults."""
    fields: dict[str, Any] = {}
    for flag in flags:
        value = values[flag.parameter]
        if value is None or value == []:
            continue
        inner = fields
        for name in flag.path[:-1]:
            inner = inner.setdefault(name, {})
        try:
            inner[flag.path[-1]] = flag.read(value)
        except ValueError as error:
            raise InvalidSpec(f"{flag.option}: {error}", expected="numbers such as 0-9,12") from error
    return fields


def arguments(spec: BaseModel) -> list[str]:
    """The command line that asks for `spec`, its inverse."""
    words: list[str] = []
    for flag in flags_of(type(spec)):
        value: Any = spec
        for name in flag.path:
            value = getattr(value, name, None)
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag.option if value else flag.refusal)
        else:
            items = value if isinstance(value, list) else [value]
            words += [word for item in items for word in (flag.option, item if isinstance(item, str) else repr(item))]
    return words


def integers(text: str) -> list[int]:
    """`0-9,12` as numbers. Raises ValueError."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:-(\d+))?\s*", part, re.ASCII)
        if not match:
            raise ValueError(f"{part!r} is neither a number nor a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or len(numbers) + last - first >= MAX_NUMBERS:
            raise ValueError(f"the range {part.strip()} is " + ("empty" if last < first else "too long"))
        numbers += range(first, last + 1)
    return numbers


def floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _one(text: str) -> list[str]:
    return [text]


READERS: dict[Any, Callable[[str], list[Any]]] = {int: integers, float: floats, str: _one}


def _flags(spec: type[BaseModel], above: tuple[str, ...], defaults: Mapping[str, Any]) -> Iterator[Flag]:
    """defaults: what stands in the fields if nothing is given; of a spec that is not there then, none."""
    for name, field in spec.model_fields.items():
        members = list(_members(field.annotation))
        default = defaults.get(name)
        if any(_is_spec(member) for member in members):
            for member in members:
                yield from _flags(member, (*above, name), dict(default) if isinstance(default, member) else {})
        elif not any(_is_list_of_specs(member) for member in members):
            yield _flag((*above, name), field, members, default, nested=bool(above))


def _flag(path: tuple[str, ...], field: FieldInfo, members: list[Any], default: Any, *, nested: bool) -> Flag:
    if len(members) != 1:
        raise TypeError(f"{'.'.join(path)}: no flag can stand for any of {members}")
    [kind] = members
    read: Callable[[Any], Any] = _as_is
    metavar = None
    if get_origin(kind) is list:
        [item] = [member for argument in get_args(kind) for member in _members(argument)]
        chosen = get_origin(item) is Literal
        read = _each(_one if chosen else READERS[item])
        metavar = "|".join(get_args(item)) if chosen else {int: "0-9,12", float: "0.5,1"}.get(item, "TEXT")
        kind = list[str]
    return Flag(
        path=path,
        metavar=metavar,
        type=kind,
        read=read,
        # A field that the enclosing default fills need not be given.
        required=field.is_required() and not nested,
        default=_shown(default),
        help=(field.description or "").replace("`", "").strip(),
    )


def _members(annotation: Any) -> Iterator[Any]:
    """What `annotation` allows, less None and the constraints around it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _members(argument)
    elif annotation is not type(None):
        yield annotation


def _is_spec(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_list_of_specs(annotation: Any) -> bool:
    return get_origin(annotation) is list and any(_is_spec(item) for item in _members(get_args(annotation)[0]))


def _shown(default: Any) -> str | None:
    if default is PydanticUndefined or default is None:
        return None
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)


def _as_is(value: Any) -> Any:
    return value


def _each(read: Callable[[str], list[Any]]) -> Callable[[list[str]], list[Any]]:
    return lambda values: [item for value in values for item in read(value)]

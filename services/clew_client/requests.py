"""From what a user wrote (a spec, a mapping, a YAML or JSON file) to a valid `JobRequest`."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clew_spec.base import Spec
from clew_spec.errors import InvalidSpec, from_problem
from clew_spec.jobs import JobRequest
from clew_spec.validation import problem_of_validation

MAX_FILE_BYTES = 4 * 2**20
STDIN = Path("-")


def job_request(asked: Spec | Mapping[str, Any], **options: Any) -> JobRequest:
    """`asked` as a request: a JobRequest or a bare spec, as an object or a mapping.

    `options` (priority, max_retries, visibility, reuse) replace those of the request where they are not None.
    Raises InvalidSpec with a JSON pointer for each fault.
    """
    body: dict[str, Any] = asked.model_dump() if isinstance(asked, Spec) else dict(asked)
    if "kind" in body:
        body = {"spec": body}
    body |= {name: value for name, value in options.items() if value is not None}
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        raise from_problem(problem_of_validation(error.errors(include_url=False), JobRequest)) from error


def read_request(path: Path, **options: Any) -> JobRequest:
    """The request in a YAML or JSON file; `-` is stdin. Raises InvalidSpec."""
    name = "stdin" if path == STDIN else str(path)
    try:
        content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1) if path == STDIN else _head(path)
        if len(content) > MAX_FILE_BYTES:
            raise InvalidSpec(f"{name} is larger than {MAX_FILE_BYTES} bytes", expected="a YAML or JSON spec")
        body = _parse(content.decode())
    except OSError as error:
        raise InvalidSpec(
            f"{name} cannot be read: {error.strerror}",
            hint="`clew submit --help` lists the kinds and what a FILE holds",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidSpec(
            f"{name} is neither YAML nor JSON: {getattr(error, 'problem', None) or error}",
            where=f"line {mark.line + 1}, column {mark.column + 1}" if mark else None,
        ) from error
    if not isinstance(body, dict):
        raise InvalidSpec(
            f"{name} does not hold a mapping", expected="a spec with a `kind`, or a request with a `spec`"
        )
    return job_request(body, **options)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _parse(text: str) -> Any:
    """JSON if it is that: YAML allows fewer characters, so not every JSON text is YAML."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 a SafeLoader


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InvalidSpec(f"`{twice[0]}` is given twice")
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `1e-3` is a number, `no` and `on` are words, a key given twice is an error."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{key}` is given twice", node.value[i][0].start_mark
                )
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in [
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)

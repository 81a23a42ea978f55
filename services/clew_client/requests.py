"""From what a user wrote (a spec, a mapping, a YAML or JSON file) to a valid request."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from clew_spec.base import Spec
from clew_spec.batches import PipelineRequest, SweepRequest, jobs_of_sweep, order_of_pipeline
from clew_spec.errors import InvalidSpec, from_problem
from clew_spec.jobs import JobRequest
from clew_spec.validation import problem_of_validation

M = TypeVar("M", bound=BaseModel)
Request = JobRequest | SweepRequest | PipelineRequest

MAX_FILE_BYTES = 4 * 2**20
STDIN = Path("-")


def job_request(asked: Spec | Mapping[str, Any], **options: Any) -> JobRequest:
    """`asked` as a request: a JobRequest or a bare spec, as an object or a mapping.

    `options` (priority, max_retries, visibility, requests, reuse) replace those of the request where they are not None.
    Raises InvalidSpec with a JSON pointer for each fault.
    """
    body: dict[str, Any] = asked.model_dump() if isinstance(asked, Spec) else dict(asked)
    if "kind" in body:
        body = {"spec": body}
    return _valid(body | _given(options), JobRequest)


def sweep_request(body: Mapping[str, Any], **options: Any) -> SweepRequest:
    """As `job_request`; jobs are counted and checked one by one, as the lab does it."""
    sweep = _valid(dict(body) | _given(options), SweepRequest)
    for _ in jobs_of_sweep(sweep):
        pass
    return sweep


def pipeline_request(body: Mapping[str, Any], **options: Any) -> PipelineRequest:
    """As `job_request`; each job may be a bare spec, and `options` are of all."""
    jobs = body.get("jobs")
    whole = dict(body)
    if isinstance(jobs, Mapping):
        whole["jobs"] = {name: _whole(job, options) for name, job in jobs.items()}
    pipeline = _valid(whole, PipelineRequest)
    order_of_pipeline(pipeline)
    return pipeline


def _whole(job: Any, options: Mapping[str, Any]) -> Any:
    if not isinstance(job, Mapping):
        return job
    return ({"spec": dict(job)} if "kind" in job else dict(job)) | _given(options)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _valid(body: dict[str, Any], model: type[M]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise from_problem(problem_of_validation(error.errors(include_url=False), model)) from error


def read_request(path: Path, **options: Any) -> Request:
    """The request in a YAML or JSON file; `-` is stdin: a pipeline if it has `jobs`, a sweep if it has a `grid` or
    `points`, else one job. Raises InvalidSpec."""
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
    if "jobs" in body:
        return pipeline_request({"name": _name_of(path), **body}, **options)
    if "grid" in body or "points" in body:
        return sweep_request({"name": _name_of(path), **body}, **options)
    return job_request(body, **options)


def read_change(text: str) -> tuple[str, Any]:
    """`optimizer.lr=1e-4`: a field and its value, as YAML has it. Raises InvalidSpec."""
    path, equals, value = text.partition("=")
    if not equals:
        raise InvalidSpec(f"{text!r} changes nothing", expected="FIELD=VALUE, such as optimizer.lr=1e-4")
    try:
        return path, _parse(value)
    except yaml.YAMLError as error:
        raise InvalidSpec(f"the value of {path} is neither YAML nor JSON: {value!r}") from error


def _name_of(path: Path) -> str:
    """Of the file, where its content has none."""
    return re.sub(r"[^a-z0-9._-]", "-", path.stem.lower()).strip("._-")[:63] or "stdin"


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

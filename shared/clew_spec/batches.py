"""Jobs that belong together: a sweep changes one job in many ways, a pipeline names jobs that wait for each other."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise, product
from math import prod
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, JsonValue, StringConstraints, ValidationError

from clew_spec.base import Name, Spec
from clew_spec.errors import InvalidSpec
from clew_spec.jobs import JobKind, JobRequest, JobSpec
from clew_spec.validation import problem_of_validation

MAX_SWEEP = 10_000
MAX_PIPELINE = 500
"""Jobs of one request."""

BatchKind = Literal["sweep", "pipeline"]
RefField = Literal["model", "dataset", "coders", "graph"]
REFERENCES: tuple[RefField, ...] = get_args(RefField)
"""Fields of specs that refer to what another job makes."""
MAKERS: dict[RefField, frozenset[JobKind]] = {
    "model": frozenset({"import-model"}),
    "dataset": frozenset({"build-dataset"}),
    "coders": frozenset({"train", "import-coders"}),
    "graph": frozenset({"attribute", "import-graph"}),
}
"""Which kinds of jobs make what such a field refers to."""
OF_PIPELINE = "jobs/"
"""A reference that begins so means a job of the same pipeline. No record has such a name."""

Path = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=200),
    Field(description="a field of the spec, such as `steps` or `optimizer.lr`; of a list, `coders.0.n_features`"),
]
Changes = dict[Path, JsonValue]


class SweepRequest(JobRequest):
    """The body of `POST /api/v1/sweeps`: a job request, and what its spec is changed to, job by job.

    Every combination of the grid's values is taken, with every one of `points`.
    """

    name: Name
    grid: dict[Path, Annotated[list[JsonValue], Field(min_length=1)]] = {}
    """By field, the values it takes."""
    points: list[Changes] = []
    """Changes that go together."""

    @property
    def size(self) -> int:
        """How many jobs it is."""
        return max(1, len(self.points)) * prod(map(len, self.grid.values()))


class PipelineRequest(Spec):
    """The body of `POST /api/v1/pipelines`: jobs by name, which refer to each other by `jobs/{name}`.

    Where a job trains several coders a layer, `jobs/{name}/{variant}` are those of one name.
    """

    name: Name
    jobs: dict[Name, JobRequest] = Field(min_length=1, max_length=MAX_PIPELINE)


def jobs_of_sweep(sweep: SweepRequest) -> Iterator[tuple[str, JobRequest]]:
    """Each job with its changes, such as `optimizer.lr=0.001 steps=10`; numbered names where the spec has a name.

    Raises InvalidSpec for no changes, too many jobs, and the first job that is not valid.
    """
    if not (sweep.grid or sweep.points):
        raise InvalidSpec("the sweep changes nothing", where="/grid", expected="`grid`, `points` or both")
    if sweep.size > MAX_SWEEP:
        raise InvalidSpec(
            f"the sweep has {sweep.size:,} jobs",
            where="/grid" if sweep.grid else "/points",
            expected=f"at most {MAX_SWEEP:,}",
            hint="divide it into several",
        )
    base = sweep.model_dump(mode="json", exclude_unset=True, exclude={"name", "grid", "points"})
    base["spec"]["kind"] = sweep.spec.kind
    digits = len(str(sweep.size))
    in_grid = (dict(zip(sweep.grid, values, strict=True)) for values in product(*sweep.grid.values()))
    for number, (alone, together) in enumerate(product(in_grid, sweep.points or [{}]), 1):
        changes = alone | together
        spec = changed(base["spec"], changes)
        if "name" in spec and "name" not in changes:
            spec["name"] = f"{spec['name']}-{number:0{digits}}"
        yield said(changes), _valid({**base, "spec": spec}, f"job {number} of the sweep, {said(changes)}: ")


def changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a spec as JSON with some of its fields changed. Raises InvalidSpec where a path leads nowhere."""
    made = deepcopy(dict(spec))
    for path, value in changes.items():
        *above, last = path.split(".")
        inner: Any = made
        for name in above:
            inner = _inside(inner, name, path)
        if isinstance(inner, list):
            inner[_index(inner, last, path)] = value
        else:
            inner[last] = value
    return made


def said(changes: Mapping[str, Any]) -> str:
    """Changes on one line."""
    return " ".join(f"{path}={value if isinstance(value, str) else _short(value)}" for path, value in changes.items())


def references(spec: JobSpec) -> dict[RefField, str]:
    """What the spec refers to, by field."""
    given = {field: getattr(spec, field, None) for field in REFERENCES}
    return {field: ref for field, ref in given.items() if isinstance(ref, str)}


def awaited(spec: JobSpec) -> dict[RefField, tuple[str, str]]:
    """The jobs of its pipeline that a spec refers to: by field, the job's name and `/{variant}`, or nothing."""
    found: dict[RefField, tuple[str, str]] = {}
    for field, ref in references(spec).items():
        if ref.startswith(OF_PIPELINE):
            name, slash, variant = ref.removeprefix(OF_PIPELINE).partition("/")
            found[field] = (name, slash + variant)
    return found


def order_of_pipeline(pipeline: PipelineRequest) -> list[str]:
    """Names of its jobs, each behind those it waits for.

    Raises InvalidSpec for a name that is no job of the pipeline, jobs that wait for each other in a circle, and a job
    that does not make what the field refers to.
    """
    waits = {name: awaited(job.spec) for name, job in pipeline.jobs.items()}
    for name, links in waits.items():
        for field, (other, _) in links.items():
            if other not in pipeline.jobs:
                raise InvalidSpec(
                    f"the pipeline has no job {other}",
                    where=f"/jobs/{name}/spec/{field}",
                    expected=f"{OF_PIPELINE}NAME, of the jobs {', '.join(sorted(pipeline.jobs))}",
                )
    try:
        before = {name: [other for other, _ in links.values()] for name, links in waits.items()}
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        raise InvalidSpec(
            f"jobs wait for each other: {', '.join(f'{one} for {other}' for one, other in pairwise(circle))}",
            where=f"/jobs/{circle[0]}",
            expected="jobs of which one at least waits for no other",
        ) from None
    for name, links in waits.items():
        for field, (other, _) in links.items():
            require_maker(pipeline.jobs[other].spec.kind, field, f"job {other}", f"/jobs/{name}/spec/{field}")
    return order


def require_maker(kind: JobKind, field: RefField, job: str, where: str) -> None:
    """Raises InvalidSpec where a job of this kind does not make what the field refers to."""
    if kind not in MAKERS[field]:
        raise InvalidSpec(
            f"{job} is of the kind {kind}, which makes no {field}",
            where=where,
            expected=f"a job of the kind {' or '.join(sorted(MAKERS[field]))}",
        )


def _valid(body: dict[str, Any], whose: str) -> JobRequest:
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        problem = problem_of_validation(error.errors(include_url=False), JobRequest)
        raise InvalidSpec(
            whose + problem.detail, where=problem.where, expected=problem.expected, hint=problem.hint
        ) from None


def _inside(inner: Any, name: str, path: str) -> Any:
    if isinstance(inner, list):
        return inner[_index(inner, name, path)]
    if inner.get(name) is None:
        inner[name] = {}
    if not isinstance(inner[name], dict | list):
        raise InvalidSpec(f"{path} leads through {name}, which has no fields", where="/spec", expected="a field's path")
    return inner[name]


def _index(items: list[Any], name: str, path: str) -> int:
    if not (name.isdecimal() and int(name) < len(items)):
        raise InvalidSpec(
            f"{path} asks for {name} of a list of {len(items)}", where="/spec", expected="an index, counted from 0"
        )
    return int(name)


def _short(value: Any) -> str:
    text = str(value).replace(" ", "")
    return text if len(text) <= 60 else text[:60] + "..."

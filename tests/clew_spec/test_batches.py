"""Sweeps and pipelines as they are asked for: laws of counting, changing and ordering."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew_spec.batches import (
    PipelineRequest,
    SweepRequest,
    awaited,
    changed,
    jobs_of_sweep,
    order_of_pipeline,
    said,
)
from clew_spec.errors import InvalidSpec
from clew_spec.training import TrainSpec

TRAIN = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0], "steps": 5}
BUILD = {"kind": "build-dataset", "name": "b", "model": "m"}
VALUES = {"steps": st.integers(1, 9), "optimizer.lr": st.sampled_from([0.1, 0.01]), "seed": st.integers(0, 9)}
grids = st.dictionaries(st.sampled_from(["steps", "optimizer.lr"]), st.none(), max_size=2).flatmap(
    lambda paths: st.fixed_dictionaries({path: st.lists(VALUES[path], min_size=1, max_size=4) for path in paths})
)
changes = st.fixed_dictionaries({"seed": VALUES["seed"]}, optional={"coder.activation.k": st.integers(1, 9)})


@given(grid=grids, points=st.lists(changes, max_size=3))
def test_a_sweep_has_each_combination_in_turn_and_changes_nothing_else(
    grid: dict[str, list[Any]], points: list[dict[str, Any]]
) -> None:
    sweep = SweepRequest.model_validate({"name": "s", "spec": TRAIN, "grid": grid, "points": points})
    if not grid and not points:
        with pytest.raises(InvalidSpec, match="changes nothing"):
            list(jobs_of_sweep(sweep))
        return
    jobs = list(jobs_of_sweep(sweep))
    assert len(jobs) == sweep.size
    for step, request in jobs:
        spec = request.spec.model_dump(exclude_unset=True)
        back = dict(change.split("=") for change in step.split())
        assert {path: str(_at(spec, path)) for path in back} == back
        assert {name: value for name, value in spec.items() if not _touched(name, back)} == {
            name: value for name, value in TRAIN.items() if not _touched(name, back)
        }
    names = [request.spec.name for _, request in jobs if isinstance(request.spec, TrainSpec)]
    assert len(names) == len(jobs)
    assert len(set(names)) == len(names)
    assert sorted(names) == names, "as numbers and as words"
    assert len({step for step, _ in jobs}) == len({said(each) for each in _combinations(grid, points)})


def _combinations(grid: dict[str, list[Any]], points: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    for path, values in grid.items():
        found = [each | {path: value} for each in found for value in values]
    return [each | point for each in found for point in points or [{}]]


def _touched(name: str, paths: Iterable[str]) -> bool:
    return name == "name" or any(path.split(".")[0] == name for path in paths)


def _at(spec: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        spec = spec[name]
    return spec


def test_a_sweep_over_the_limit_is_told_its_number_without_being_made() -> None:
    values = list(range(1000))
    grid = {"seed": values, "steps": values, "tokens_per_step": values, "log_every": values}
    sweep = SweepRequest.model_validate({"name": "s", "spec": TRAIN, "grid": grid})
    with pytest.raises(InvalidSpec, match=r"1,000,000,000,000 jobs.*at most 10,000"):
        next(iter(jobs_of_sweep(sweep)))


def test_changes_reach_into_lists_and_leave_the_base_alone() -> None:
    base = {"coders": [{"k": 1}, {"k": 2}], "optimizer": None}
    assert changed(base, {"coders.1.k": 3, "optimizer.lr": 0.1}) == {
        "coders": [{"k": 1}, {"k": 3}],
        "optimizer": {"lr": 0.1},
    }
    assert base == {"coders": [{"k": 1}, {"k": 2}], "optimizer": None}
    for path in ("coders.2.k", "coders.x", "coders.0.k.deep"):
        with pytest.raises(InvalidSpec):
            changed(base, {path: 1})


@given(data=st.data())
def test_a_pipeline_is_ordered_or_its_circle_is_named(data: st.DataObject) -> None:
    """Any jobs that refer to any of them: whatever kinds they are, a circle is what is told first."""
    names = [f"j{n}" for n in range(data.draw(st.integers(1, 6)))]
    links = {name: data.draw(st.sampled_from([None, *names])) for name in names}
    jobs = {name: {"spec": TRAIN | ({"dataset": f"jobs/{other}"} if other else {})} for name, other in links.items()}
    pipeline = PipelineRequest.model_validate({"name": "p", "jobs": jobs})
    circles = {name for name in names if name in _behind(links, name)}
    if not any(links.values()):
        assert sorted(order_of_pipeline(pipeline)) == names
        return
    with pytest.raises(InvalidSpec) as refused:
        order_of_pipeline(pipeline)
    assert ("wait for each other" in refused.value.detail) == bool(circles)
    if circles:
        assert refused.value.where in {f"/jobs/{name}" for name in circles}
    else:
        assert "makes no dataset" in refused.value.detail


def _behind(links: dict[str, str | None], name: str) -> set[str]:
    found: set[str] = set()
    other = links[name]
    while other and other not in found:
        found.add(other)
        other = links[other]
    return found


@given(data=st.data())
def test_each_job_of_a_pipeline_comes_behind_those_it_waits_for(data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, 4)) for _ in range(3)]
    texts, coders, others = ([f"{kind}{n}" for n in range(count)] for kind, count in zip("tco", counts, strict=True))
    jobs: dict[str, Any] = {name: {"spec": BUILD} for name in texts}
    for name in coders:
        jobs[name] = {"spec": TRAIN | {"dataset": f"jobs/{data.draw(st.sampled_from(texts))}"}}
    for name in others:
        spec = {"kind": "evaluate", "coders": f"jobs/{data.draw(st.sampled_from(coders))}/k32"}
        jobs[name] = {"spec": spec | {"dataset": f"jobs/{data.draw(st.sampled_from(texts))}"}}
    shuffled = data.draw(st.permutations(list(jobs)))
    pipeline = PipelineRequest.model_validate({"name": "p", "jobs": {name: jobs[name] for name in shuffled}})
    order = order_of_pipeline(pipeline)
    assert sorted(order) == sorted(jobs)
    for name, job in pipeline.jobs.items():
        for other, variant in awaited(job.spec).values():
            assert order.index(other) < order.index(name)
            assert variant in ("", "/k32")

"""Curves: one value a step, the right one, and few enough to draw."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.series import metric_series, step_times
from clew_lab.catalogue.tables import Event
from clew_spec.api import MetricSeries


def curves(api: TestClient, job_id: object, **params: Any) -> dict[str, MetricSeries]:
    answer = api.get(f"/api/v1/jobs/{job_id}/metrics", params=params)
    assert answer.status_code == 200, answer.text
    return {view.name: view for view in map(MetricSeries.model_validate, answer.json())}


def test_the_newest_attempt_speaks_and_hidden_points_do_not(api: TestClient, world: World, alice: Tenant) -> None:
    job = world.job(alice)
    world.metric(job, "loss", {0: 9.0, 5: 8.0})
    world.metric(job, "loss", {10: 7.0, 15: 6.0}, hidden=True)  # past the checkpoint at step 5
    world.metric(job, "loss", {5: 4.0, 10: 3.0}, fence=2)
    world.metric(job, "L03/fvu", {0: math.nan, 1: math.inf, 2: 0.5})
    found = curves(api, job.id)
    assert sorted(found) == ["L03/fvu", "loss"]
    assert (found["loss"].steps, found["loss"].values) == ([0, 5, 10], [9.0, 4.0, 3.0])
    assert (found["L03/fvu"].steps, found["L03/fvu"].values) == ([0, 1, 2], [None, None, 0.5])
    assert list(curves(api, job.id, name="loss")) == ["loss"]
    assert sorted(curves(api, job.id, name=["loss", "L03/fvu"])) == ["L03/fvu", "loss"]
    assert curves(api, job.id, name="nothing") == {}


def test_the_bounds_of_a_question_are_told(api: TestClient, world: World, alice: Tenant) -> None:
    job = world.job(alice)
    for params, where in (
        ({"max_points": 1}, "/query/max_points"),
        ({"max_points": 10**9}, "/query/max_points"),
        ({"first_step": -1}, "/query/first_step"),
        ({"last_step": 2**63}, "/query/last_step"),
        ({"name": "a\0"}, "/query/name/0"),
    ):
        answer = api.get(f"/api/v1/jobs/{job.id}/metrics", params=params)
        assert (answer.status_code, answer.json()["where"]) == (422, where)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(width=32) | st.sampled_from([0.0, 1.0, math.nan]), min_size=1, max_size=60),
    max_points=st.integers(5, 40),
)
def test_thinning_keeps_the_ends_and_the_extremes(
    world: World, alice: Tenant, values: list[float], max_points: int
) -> None:
    job = world.job(alice)
    world.metric(job, "loss", {3 * n: value for n, value in enumerate(values)})
    with world.sessions() as session:
        [curve] = metric_series(session, alice.actor, job.id, max_points=max_points)
    given = {3 * n: value if math.isfinite(value) else None for n, value in enumerate(values)}
    assert curve.steps == sorted(set(curve.steps))
    assert curve.values == [given[step] for step in curve.steps]
    assert {0, 3 * (len(values) - 1)} <= set(curve.steps)
    if len(values) <= max_points:
        assert curve.steps == list(given)
    else:
        assert len(curve.steps) <= max_points
    finite = [value for value in given.values() if value is not None]
    if finite:
        kept = [value for value in curve.values if value is not None]
        assert (min(kept), max(kept)) == (min(finite), max(finite))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.sets(st.integers(0, 40), min_size=1), ends=st.tuples(st.integers(0, 45), st.integers(0, 45)))
def test_a_range_of_a_curve_is_that_part_of_it(
    world: World, alice: Tenant, steps: set[int], ends: tuple[int, int]
) -> None:
    job = world.job(alice)
    world.metric(job, "loss", {step: step / 7 for step in steps})
    first, last = ends
    with world.sessions() as session:
        found = metric_series(session, alice.actor, job.id, first_step=first, last_step=last)
    inside = sorted(step for step in steps if first <= step <= last)
    assert [step for curve in found for step in curve.steps] == inside
    assert [value for curve in found for value in curve.values] == [step / 7 for step in inside]


def test_steps_were_measured_when_the_newest_attempt_did(api: TestClient, world: World, alice: Tenant) -> None:
    job = world.job(alice)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    told = [(1, 0, 0), (1, 5, 10), (1, 10, 20), (2, 5, 50), (2, 10, 60), (2, 15, 70)]
    owner = {"project_id": job.project_id, "job_id": job.id}
    world.add(
        *(
            Event(**owner, seq=n, fence=fence, at=start + timedelta(seconds=s), type="metric", data={"step": step})
            for n, (fence, step, s) in enumerate(told)
        ),
        Event(**owner, seq=len(told), fence=2, at=start, type="log", data={"level": "info", "message": "step"}),
    )
    answer = api.get(f"/api/v1/jobs/{job.id}/steps")
    assert answer.status_code == 200, answer.text
    seconds = [(each["step"], (datetime.fromisoformat(each["at"]) - start).total_seconds()) for each in answer.json()]
    assert seconds == [(0, 0), (5, 50), (10, 60), (15, 70)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 60), max_points=st.integers(5, 40))
def test_the_clock_is_thinned_and_keeps_its_ends(world: World, alice: Tenant, n: int, max_points: int) -> None:
    job = world.job(alice)
    owner = {"project_id": job.project_id, "job_id": job.id}
    world.add(*(Event(**owner, seq=i, fence=1, type="metric", data={"step": 3 * i}) for i in range(n)))
    with world.sessions() as session:
        steps = [each.step for each in step_times(session, alice.actor, job.id, max_points=max_points)]
    assert len(steps) == len(set(steps)) <= max_points
    assert steps == sorted(steps)
    assert set(steps) <= {3 * i for i in range(n)}
    if n:
        assert {0, 3 * (n - 1)} <= set(steps)
    if n < max_points:
        assert len(steps) == n

"""The log of a job, read from its end."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue import queries
from clew_lab.catalogue.tables import Event, Job

TYPES = ["state", "progress", "metric", "log", "checkpoint", "artifact"]


def tell(world: World, job: Job, types: list[str]) -> None:
    owner = {"project_id": job.project_id, "job_id": job.id, "fence": 1}
    world.add(*(Event(**owner, seq=seq, type=type_, data={"n": seq}) for seq, type_ in enumerate(types, 1)))


def log(api: TestClient, job: Job, **params: Any) -> list[int]:
    answer = api.get(f"/api/v1/jobs/{job.id}/log", params=params)
    assert answer.status_code == 200, answer.text
    return [event["seq"] for event in answer.json()]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(types=st.lists(st.sampled_from(TYPES), max_size=40), limit=st.integers(1, 12))
def test_read_from_the_end_it_is_all_but_metrics_and_progress(
    world: World, alice: Tenant, types: list[str], limit: int
) -> None:
    job = world.job(alice)
    tell(world, job, types)
    read: list[int] = []
    before = None
    with world.sessions() as session:
        while True:
            part = queries.log_before(session, alice.actor, job.id, before, limit)
            assert len(part) <= limit
            read = [*(event.seq for event in part), *read]
            if len(part) < limit:
                break
            before = part[0].seq
    assert read == [seq for seq, type_ in enumerate(types, 1) if type_ not in ("metric", "progress")]


def test_an_early_line_is_found_behind_much_progress(api: TestClient, world: World, alice: Tenant) -> None:
    job, other = world.job(alice), world.job(alice)
    tell(world, job, ["state", "log", *["progress"] * 1500, "log"])
    tell(world, other, ["log"] * 3)
    assert log(api, job) == [1, 2, 1503]
    assert log(api, job, limit=2) == [2, 1503]
    assert log(api, job, limit=2, before=2) == [1]
    assert log(api, job, before=0) == []


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"before": -1}, {"before": "x"}])
def test_the_bounds_of_a_question_are_told(
    api: TestClient, world: World, alice: Tenant, params: dict[str, Any]
) -> None:
    answer = api.get(f"/api/v1/jobs/{world.job(alice).id}/log", params=params)
    assert (answer.status_code, answer.json()["where"]) == (422, f"/query/{next(iter(params))}")

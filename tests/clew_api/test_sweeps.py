"""Sweeps: submitted as wholes, told apart, stopped and tried again."""

import time
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.batches import PIPELINE, TRAIN, V1, end, jobs_of, make, rows, spec_of, sweep
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Audit, Event, Job, Project, Worker
from clew_spec.batch_views import BatchView, SweepEstimate
from clew_spec.coders import TopK
from clew_spec.jobs import JobState
from clew_spec.people import Role
from clew_spec.training import TrainSpec


def test_a_sweep_is_every_combination_once(api: TestClient, world: World, records: None) -> None:
    points = [{"coder.activation.k": 2, "seed": 1}, {"coder.activation.k": 4, "seed": 2}]
    answer = api.post(f"{V1}/sweeps", json=sweep(points=points, priority="low"), headers={"X-Request-ID": "mine"})
    assert answer.status_code == 202, answer.text
    batch = BatchView.model_validate(answer.json())
    assert (batch.kind, batch.name, batch.size, batch.states) == ("sweep", "rates", 12, {"queued": 12})
    jobs = jobs_of(api, str(batch.id))
    specs = [spec_of(job, TrainSpec) for job in jobs]
    said = {(spec.optimizer.lr, spec.steps, spec.coder.activation, spec.seed) for spec in specs}
    assert said == {(lr, steps, TopK(k=k), k // 2) for lr in (1e-3, 1e-4) for steps in (5, 6, 7) for k in (2, 4)}
    assert [job.name for job in jobs] == [spec.name for spec in specs] == [f"t-{n:02}" for n in range(1, 13)]
    assert jobs[0].batch is not None
    assert jobs[0].batch.step == "optimizer.lr=0.001 steps=5 coder.activation.k=2 seed=1"
    assert {job.priority for job in jobs} == {"low"}
    assert len({tuple(job.parents) for job in jobs}) == 1
    assert api.get(answer.headers["location"]).json() == answer.json()
    assert api.get(f"{V1}/batches", params={"kind": "sweep"}).json()["items"] == [answer.json()]
    assert api.get(f"{V1}/batches", params={"kind": "pipeline"}).json()["items"] == []
    page = api.get(f"{V1}/jobs", params={"batch": str(batch.id), "limit": 5}).json()
    rest = api.get(f"{V1}/jobs", params={"batch": str(batch.id), "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [str(job.id) for job in reversed(jobs)]
    assert api.get(f"{V1}/jobs", params={"batch": str(batch.id), "state": "running"}).json()["items"] == []
    with world.sessions() as session:
        assert session.scalars(select(Audit.request_id).where(Audit.action == "sweep.accepted")).all() == ["mine"]


BAD_SWEEPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "changes nothing": ({"grid": {}}, "/grid", "changes nothing"),
    "too many": ({"grid": {"steps": list(range(1, 102)), "seed": list(range(100))}}, "/grid", "10,100 jobs"),
    "an unknown field": ({"grid": {"optimizer.lrr": [1]}}, "/spec/optimizer/lrr", "did you mean `lr`?"),
    "a value that cannot be": ({"grid": {"steps": [5, 0]}}, "/spec/steps", "job 2 of the sweep, steps=0"),
    "a path that leads nowhere": ({"grid": {"steps.more": [1]}}, "/spec", "which has no fields"),
    "what another part refuses": ({"grid": {"layers": [[0], [9]]}}, "/spec/layers/0", "layers=[9]: layer 9"),
    "no such dataset": ({"grid": {"dataset": ["d", "e"]}}, "/spec/dataset", "no dataset named e"),
    "no value": ({"grid": {"steps": []}}, "/grid/steps", "at least 1"),
    "a path that is none": ({"grid": {"Steps!": [1]}}, "/grid/Steps!", "pattern"),
    "no name": ({"name": "No Name"}, "/name", "pattern"),
}


@pytest.mark.parametrize("case", BAD_SWEEPS)
def test_of_a_sweep_that_cannot_be_nothing_is_queued(api: TestClient, world: World, records: None, case: str) -> None:
    fields, where, said = BAD_SWEEPS[case]
    before = rows(world)
    for path in ("sweeps", "estimates/sweep"):
        answer = api.post(f"{V1}/{path}", json=sweep(**fields))
        assert answer.status_code == 422, answer.text
        problem = answer.json()
        assert problem["where"].startswith(where), problem
        assert said in " ".join(str(part) for part in problem.values())
    assert rows(world) == before


def test_what_no_worker_can_hold_and_no_quota_allows_is_refused_as_a_whole(
    api: TestClient, world: World, alice: Tenant, records: None
) -> None:
    world.add(Worker(name="small", pool="train", device="cpu", memory_bytes=2**30))
    answer = api.post(f"{V1}/sweeps", json=sweep(grid={"coder.n_features": [64, 2**20]}))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("coder.n_features=1048576: ")
    estimate = SweepEstimate.model_validate(
        api.post(f"{V1}/estimates/sweep", json=sweep(grid={"coder.n_features": [64, 2**20, 128]})).json()
    )
    assert (estimate.jobs, estimate.largest_step, estimate.largest.fits) == (3, "coder.n_features=1048576", False)
    assert (estimate.published_bytes or 0) > 2**20
    with world.sessions.begin() as session:
        session.get_one(Project, alice.project.id).max_stored_bytes = 100_000
    assert api.post(f"{V1}/jobs", json={"spec": TRAIN | {"coder": {"n_features": 64}}}).status_code == 202
    assert api.post(f"{V1}/sweeps", json=sweep(grid={"coder.n_features": [64] * 200})).status_code == 409
    assert rows(world)[1] == 0


def test_a_key_makes_one_batch(api: TestClient, world: World, records: None, bob: Tenant) -> None:
    key = {"Idempotency-Key": "once"}
    for path, body, other in (
        ("sweeps", sweep(), sweep(name="others")),
        ("pipelines", PIPELINE, {**PIPELINE, "name": "others"}),
    ):
        headers = {"Idempotency-Key": f"once-{path}"}
        first, again = (api.post(f"{V1}/{path}", json=body, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 200), again.text
        assert again.json() == first.json()
        assert api.post(f"{V1}/{path}", json=other, headers=headers).status_code == 409
    assert api.post(f"{V1}/sweeps", json=sweep(), headers=key).status_code == 202
    world.dataset(bob)
    world.coders(bob, world.model(bob), world.dataset(bob))
    assert api.post(f"{V1}/sweeps", json=sweep(), headers=key | bob.auth).status_code == 202
    assert api.get(f"{V1}/batches/{first.json()['id']}", headers=bob.auth).status_code == 404
    assert api.get(f"{V1}/jobs", params={"batch": first.json()["id"]}, headers=bob.auth).json()["items"] == []


def test_ten_thousand_jobs_in_seconds_and_cancelled_as_one(api: TestClient, world: World, records: None) -> None:
    grid = {"seed": list(range(100)), "optimizer.lr": [1e-5 * n for n in range(1, 101)]}
    began = time.monotonic()
    answer = api.post(f"{V1}/sweeps", json=sweep(grid=grid))
    took = time.monotonic() - began
    assert answer.status_code == 202, answer.text
    id = answer.json()["id"]
    assert answer.json()["states"] == {"queued": 10_000}
    assert took < 30, f"{took:.1f} s"  # the target of 10 s is measured where nothing else runs: `queue/sweep-10k`
    with world.sessions() as session:
        states = select(func.count()).select_from(Event).join(Job).where(Job.batch_id == UUID(id))
        assert session.scalar(states) == 10_000
    cancelled = api.post(f"{V1}/batches/{id}/cancel")
    assert cancelled.status_code == 202
    assert cancelled.json()["states"] == {"cancelled": 10_000}


def test_a_batch_is_tried_again_as_far_as_it_failed(api: TestClient, world: World, records: None) -> None:
    batch = api.post(f"{V1}/sweeps", json=sweep()).json()["id"]
    ids = [str(job.id) for job in jobs_of(api, batch)]
    assert api.post(f"{V1}/batches/{batch}/retry").status_code == 409
    for id in ids[:2]:
        end(world, id, JobState.FAILED)
    make(world, ids[2])
    answer = api.post(f"{V1}/batches/{batch}/retry")
    assert answer.status_code == 202
    assert answer.json()["states"] == {"queued": 5, "succeeded": 1}
    assert api.post(f"{V1}/batches/{batch}/retry").status_code == 409, "all that failed is being tried again"


def test_who_does_not_manage_jobs_cancels_no_part_of_anothers_batch(
    api: TestClient, world: World, alice: Tenant, records: None
) -> None:
    member = world.member(alice.project, "max", Role.MEMBER)
    theirs = api.post(f"{V1}/sweeps", json=sweep(name="hers")).json()["id"]
    own = api.post(f"{V1}/sweeps", json=sweep(name="his"), headers=member.auth).json()["id"]
    assert api.post(f"{V1}/batches/{theirs}/cancel", headers=member.auth).status_code == 403
    assert api.get(f"{V1}/batches/{theirs}").json()["states"] == {"queued": 6}
    assert api.post(f"{V1}/batches/{own}/cancel", headers=member.auth).json()["states"] == {"cancelled": 6}
    viewer = world.member(alice.project, "vic", Role.VIEWER)
    for path in ("sweeps", "pipelines", "estimates/sweep", f"batches/{own}/cancel", f"batches/{own}/retry"):
        assert api.post(f"{V1}/{path}", json=sweep(), headers=viewer.auth).status_code == 403
    assert api.get(f"{V1}/batches/{own}", headers=viewer.auth).status_code == 200

"""A job is weighed before it is submitted, and refused where no worker could hold it."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Attempt, Job, Worker
from clew_spec.api import EstimateView
from clew_spec.coders import CoderConfig
from clew_spec.errors import Problem
from clew_spec.estimates import DatasetFacts, Facts, estimate
from clew_spec.jobs import JobRequest
from clew_spec.results import ModelConfig
from clew_spec.units import size

pytestmark = pytest.mark.lab

V1 = "/api/v1"
GIB = 2**30
SAID = ("memory", "disk", "flops", "tokens", "time_s")
TRAIN: dict[str, Any] = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0, 1, 2], "steps": 10}

MEAN_EDGES: dict[str, Any] = {"kind": "mean-edges", "coders": "set", "layer": 0, "feature": 1}


def weighed(api: TestClient, spec: dict[str, Any]) -> EstimateView:
    answer = api.post(f"{V1}/estimates", json={"spec": spec})
    assert answer.status_code == 200, answer.text
    return EstimateView.model_validate_json(answer.content)


def refused(api: TestClient, spec: dict[str, Any], path: str = "jobs") -> Problem:
    answer = api.post(f"{V1}/{path}", json={"spec": spec})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return Problem.model_validate_json(answer.content)


def worker(world: World, name: str, memory_bytes: int, pool: str = "train", **fields: Any) -> Worker:
    row = Worker(name=name, pool=pool, device="cpu", memory_bytes=memory_bytes, **fields)
    world.add(row)
    return row


def test_the_answer_is_the_specs_arithmetic_and_nothing_is_stored(api: TestClient, world: World, alice: Tenant) -> None:
    model, dataset = world.model(alice), world.dataset(alice)
    coders = world.coders(alice, model, dataset)
    facts = Facts(
        model=ModelConfig.model_validate(model.config),
        dataset=DatasetFacts(context=16, train_tokens=16_000, heldout_tokens=4096),
        coders=[CoderConfig.model_validate(coder.config) for coder in coders],
    )
    with world.sessions() as session:
        before = session.scalars(select(func.count()).select_from(Job)).one()
    kinds: list[dict[str, Any]] = [
        TRAIN,
        {"kind": "evaluate", "coders": "set"},
        MEAN_EDGES,
        {"kind": "build-dataset", "name": "b", "model": "m", "max_tokens": 1000},
    ]
    for spec in kinds:
        found = weighed(api, spec).estimate
        said = estimate(JobRequest.model_validate({"spec": spec}).spec, facts)
        assert found.model_copy(update={"unknown": {}}) == said.model_copy(update={"unknown": {}})
        assert {name for name in SAID if getattr(found, name) is None} == set(found.unknown), "a null is explained"
    prompt = weighed(api, {"kind": "attribute", "name": "g", "coders": "set", "prompt": "when mary went"})
    assert (prompt.estimate.tokens, prompt.fits) == (3, True)
    assert prompt.estimate.memory is not None
    assert prompt.reason
    with world.sessions() as session:
        assert session.scalars(select(func.count()).select_from(Job)).one() == before


def test_an_export_is_weighed_whether_it_needs_the_model_or_not(api: TestClient, world: World, alice: Tenant) -> None:
    model, dataset = world.model(alice), world.dataset(alice)
    world.coders(alice, model, dataset)
    export = {"kind": "export-coders", "coders": "set"}
    plain, calibrated = (weighed(api, {**export, "format": name}).estimate.disk for name in ("clew", "circuit-tracer"))
    assert plain
    assert calibrated
    assert plain.published_bytes == calibrated.published_bytes
    fetched = calibrated.worker_bytes - plain.worker_bytes
    assert fetched == 4 * model.config["n_parameters"]
    assert api.post(f"{V1}/jobs", json={"spec": {**export, "format": "clew"}}).status_code == 202


def test_a_bad_job_is_told_so_as_at_its_submission(api: TestClient, world: World, alice: Tenant) -> None:
    world.model(alice)
    for spec in (TRAIN | {"layers": [99]}, TRAIN | {"model": "no"}, TRAIN | {"steps": 0}, {"kind": "dance"}):
        problems = [refused(api, spec, path).model_copy(update={"request_id": None}) for path in ("jobs", "estimates")]
        assert problems[0] == problems[1]
    assert api.post(f"{V1}/estimates", json={}, headers={"Authorization": ""}).status_code == 401


def test_a_job_that_no_worker_can_hold_is_refused_with_what_would_fit(
    api: TestClient, world: World, alice: Tenant
) -> None:
    world.model(alice)
    world.dataset(alice)
    large = TRAIN | {"tokens_per_step": 2**18, "coder": {"n_features": 512, "activation": {"kind": "relu"}}}
    unknown = weighed(api, large).estimate.memory_bytes or 0
    assert api.post(f"{V1}/jobs", json={"spec": large}).status_code == 202, "with no worker there is no limit"
    worker(world, "small", GIB)
    needs = weighed(api, large).estimate.memory_bytes or 0
    assert 2 * GIB < needs < unknown, "a CPU takes less at once than a GPU"
    worker(world, "smaller", GIB // 2)
    worker(world, "elsewhere", 2 * needs, pool="circuits")
    worker(world, "gone", 2 * needs, beat_at=func.now() - timedelta(hours=1))
    worker(world, "leaving", 2 * needs, draining=True)
    found = weighed(api, large)
    assert [(each.name, each.fits) for each in found.workers] == [("small", False), ("smaller", False)]
    assert not found.fits
    problem = refused(api, large)
    assert problem.detail == found.reason
    assert problem.where == "/spec/tokens_per_step"
    assert problem.expected == "at most 1.0 GiB of memory"
    assert f"{needs / GIB:.1f} GiB" in problem.detail
    assert problem.hint
    name, _, value = problem.hint.removesuffix(" would fit").partition(" = ")
    assert api.post(f"{V1}/jobs", json={"spec": large | {name: int(value)}}).status_code == 202
    assert not weighed(api, large | {name: 2 * int(value)}).fits, "the gentlest change is named"
    for memory in (needs, 0):  # just enough, or not known
        worker(world, f"enough-{memory}", memory)
        assert api.post(f"{V1}/jobs", json={"spec": large}).status_code == 202
        assert weighed(api, large).fits


def test_an_analysis_that_no_worker_can_hold_is_refused_with_both_numbers(
    api: TestClient, world: World, alice: Tenant
) -> None:
    model, dataset = world.model(alice), world.dataset(alice)
    world.coders(alice, model, dataset)
    worker(world, "small", GIB // 2, pool="circuits")
    found = weighed(api, MEAN_EDGES)
    assert found.estimate.memory is not None
    assert (found.fits, found.estimate.memory.moment in (found.reason or "")) == (False, True)
    problem = refused(api, MEAN_EDGES)
    assert problem.expected == "at most 512.0 MiB of memory"
    assert size(found.estimate.memory.bytes) in problem.detail
    worker(world, "large", found.estimate.memory.bytes, pool="circuits")
    assert api.post(f"{V1}/jobs", json={"spec": MEAN_EDGES}).status_code == 202


def test_a_request_that_was_taken_in_is_not_refused_when_it_is_repeated(
    api: TestClient, world: World, alice: Tenant
) -> None:
    world.model(alice)
    world.dataset(alice)
    headers = {"Idempotency-Key": "once"}
    first = api.post(f"{V1}/jobs", json={"spec": TRAIN}, headers=headers)
    worker(world, "tiny", 1)
    assert refused(api, TRAIN).where
    again = api.post(f"{V1}/jobs", json={"spec": TRAIN}, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)


def test_time_is_judged_by_finished_jobs_of_the_model_on_these_workers(
    api: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    model, other = world.model(alice), world.model(alice, "other")
    dataset = world.dataset(alice)
    here, away = worker(world, "here", 64 * GIB), worker(world, "away", 64 * GIB, pool="circuits")
    assert weighed(api, TRAIN).estimate.time_s is None

    def finished(seconds: int, owner: Tenant = alice, of: Any = model, on: Worker = here, **fields: Any) -> None:
        job = world.job(owner, kind="train", spec=TRAIN, state="succeeded", finished_at=func.now(), **fields)
        world.touch(job, inputs={"model": str(of.id), "dataset": str(dataset.id)})
        ended = func.now()
        world.add(
            Attempt(
                project_id=job.project_id,
                job_id=job.id,
                fence=job.fence,
                worker_id=on.id,
                started_at=ended - timedelta(seconds=seconds),
                ended_at=ended,
                outcome="succeeded",
            )
        )

    for ignored in ({"owner": bob}, {"of": other}, {"on": away}, {"lost_count": 1}):
        finished(1, **ignored)
    assert weighed(api, TRAIN).estimate.time_s is None
    finished(100)
    finished(300)
    time = weighed(api, TRAIN).estimate.time_s
    assert time is not None
    assert (time.low, time.high) == pytest.approx((100, 300))
    assert time.jobs == 2
    longer = weighed(api, TRAIN | {"steps": 1000}).estimate
    assert longer.time_s is not None
    assert longer.flops is not None
    assert longer.time_s.low / time.low == pytest.approx(longer.flops / (weighed(api, TRAIN).estimate.flops or 0))

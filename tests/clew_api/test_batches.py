"""Sweeps and pipelines: submitted as wholes, told apart, stopped and tried again."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from tests.clew_api.seeds import Tenant, World
from tests.support.jobs import OOPS

from clew_lab.catalogue.tables import Audit, Batch, Event, Job, Model, Project, Worker
from clew_lab.catalogue.tokenizing import Tokenizers
from clew_lab.jobs import moves
from clew_scheduler.release import release_due
from clew_spec.api import JobView
from clew_spec.batch_views import BatchView, PipelineEstimate, SweepEstimate
from clew_spec.jobs import JobState
from clew_spec.people import Role

V1 = "/api/v1"
TRAIN = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0], "steps": 5}
BUILD = {"kind": "build-dataset", "name": "text", "model": "m", "context": 16}
PIPELINE = {
    "name": "all",
    "jobs": {
        "graph": {"spec": {"kind": "attribute", "name": "g", "coders": "jobs/train", "prompt": "when mary"}},
        "measured": {"spec": {"kind": "evaluate", "coders": "jobs/train"}},
        "train": {"spec": TRAIN | {"dataset": "jobs/text"}, "max_retries": 1},
        "text": {"spec": BUILD},
    },
}


@pytest.fixture
def records(world: World, alice: Tenant) -> None:
    world.dataset(alice)
    world.coders(alice, world.model(alice), world.dataset(alice))


def sweep(**fields: Any) -> dict[str, Any]:
    return {"name": "rates", "spec": TRAIN, "grid": {"optimizer.lr": [1e-3, 1e-4], "steps": [5, 6, 7]}} | fields


def jobs_of(api: TestClient, batch: str) -> list[JobView]:
    """Oldest first, in full."""
    found = api.get(f"{V1}/jobs", params={"batch": batch, "limit": 200}).json()["items"]
    return [JobView.model_validate(api.get(f"{V1}/jobs/{item['id']}").json()) for item in reversed(found)]


def rows(world: World) -> tuple[int, int]:
    with world.sessions() as session:
        jobs, batches = (session.scalar(select(func.count()).select_from(table)) for table in (Job, Batch))
        return int(jobs or 0), int(batches or 0)


def test_a_sweep_is_every_combination_once(api: TestClient, world: World, records: None) -> None:
    points = [{"coder.activation.k": 2, "seed": 1}, {"coder.activation.k": 4, "seed": 2}]
    answer = api.post(f"{V1}/sweeps", json=sweep(points=points, priority="low"), headers={"X-Request-ID": "mine"})
    assert answer.status_code == 202, answer.text
    batch = BatchView.model_validate(answer.json())
    assert (batch.kind, batch.name, batch.size, batch.states) == ("sweep", "rates", 12, {"queued": 12})
    jobs = jobs_of(api, str(batch.id))
    said = {(job.spec.optimizer.lr, job.spec.steps, job.spec.coder.activation.k, job.spec.seed) for job in jobs}
    assert said == {(lr, steps, k, k // 2) for lr in (1e-3, 1e-4) for steps in (5, 6, 7) for k in (2, 4)}
    assert [job.name for job in jobs] == [job.spec.name for job in jobs] == [f"t-{n:02}" for n in range(1, 13)]
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


BAD_SWEEPS = {
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


def ids_of(api: TestClient, batch: str) -> dict[str, str]:
    """Of a pipeline's jobs, by name."""
    return {job.batch.step: str(job.id) for job in jobs_of(api, batch) if job.batch}


def show(api: TestClient, id: str) -> JobView:
    return JobView.model_validate(api.get(f"{V1}/jobs/{id}").json())


@pytest.fixture
def release(world: World) -> Callable[[], int]:
    """What the scheduler does again and again."""
    tokenizers = Tokenizers(world.store.read)
    return lambda: release_due(world.sessions, tokenizers, world.settings)


def make(world: World, id: str, *records: Any) -> None:
    """The job succeeds, and these records are what it made."""
    with world.sessions.begin() as session:
        job = moves.lock(session, UUID(id))
        moves.move(session, job, JobState.DISPATCHED, lease_s=60)
        moves.move(session, job, JobState.RUNNING, lease_s=60)
        moves.move(session, job, JobState.SUCCEEDED)
        for record in records:
            session.merge(record).job_id = job.id


def end(world: World, id: str, state: JobState) -> None:
    with world.sessions.begin() as session:
        job = moves.lock(session, UUID(id))
        if state is JobState.FAILED:
            moves.move(session, job, JobState.DISPATCHED, lease_s=60)
            moves.move(session, job, JobState.RUNNING, lease_s=60)
            job.error = OOPS.model_dump(mode="json", exclude_none=True)
        moves.move(session, job, state)


def test_a_pipeline_runs_as_far_as_its_inputs_are_there(
    api: TestClient, world: World, alice: Tenant, records: None, release: Callable[[], int]
) -> None:
    planned = PipelineEstimate.model_validate(api.post(f"{V1}/estimates/pipeline", json=PIPELINE).json())
    assert list(planned.jobs)[:2] == ["text", "train"]
    assert {name: job.depends_on for name, job in planned.jobs.items()} == {
        "text": [],
        "train": ["text"],
        "measured": ["train"],
        "graph": ["train"],
    }
    for name in ("train", "measured", "graph"):
        found = planned.jobs[name].estimate.estimate
        assert (found.memory_bytes or 0) > 2**20, "judged by what the jobs before it are asked to make"
        assert (found.disk is None) == (name != "graph"), "how long the text is, is not known"
    assert planned.jobs["graph"].estimate.estimate.tokens == 2
    answer = api.post(f"{V1}/pipelines", json=PIPELINE)
    assert answer.status_code == 202, answer.text
    batch = BatchView.model_validate(answer.json())
    assert (batch.kind, batch.size, batch.states) == ("pipeline", 4, {"queued": 1, "blocked": 3})
    ids = ids_of(api, str(batch.id))
    train = show(api, ids["train"])
    assert (train.state, train.max_retries, train.inputs) == ("blocked", 1, {})
    assert train.spec.dataset == ids["text"]
    assert [job.id for job in train.depends_on] == [UUID(ids["text"])]
    assert {str(job.id) for job in train.dependents} == {ids["measured"], ids["graph"]}
    assert release() == 0, "nothing is there yet"

    model = next(item for item in api.get(f"{V1}/models").json()["items"])
    dataset = world.dataset(alice, "text")
    make(world, ids["text"], dataset)
    assert release() == 1
    train = show(api, ids["train"])
    assert (train.state, train.inputs) == ("queued", {"model": [UUID(model["id"])], "dataset": [dataset.id]})
    with world.sessions() as session:
        assert session.get_one(Job, train.id).needs_ram_alone > 0
    coders = world.coders(alice, session.get_one(Model, UUID(model["id"])), dataset, "t", layers=(0, 1, 2, 3))
    make(world, ids["train"], *coders)
    assert release() == 2
    for name in ("measured", "graph"):
        job = show(api, ids[name])
        assert job.state == "queued"
        assert job.inputs["coders"] == [coder.id for coder in coders]
    clone = api.post(f"{V1}/jobs", json={"spec": show(api, ids["measured"]).spec.model_dump(mode="json")})
    assert clone.json()["inputs"]["coders"] == [str(coder.id) for coder in coders]


def link(**refs: str) -> dict[str, Any]:
    """A pipeline of training jobs that each refer to another by `dataset`."""
    return {"name": "p", "jobs": {name: {"spec": TRAIN | {"dataset": ref}} for name, ref in refs.items()}}


BAD_PIPELINES = {
    "a circle": (link(a="jobs/b", b="jobs/c", c="jobs/a"), "/jobs/", "jobs wait for each other: "),
    "itself": (link(a="jobs/a"), "/jobs/a", "a for a"),
    "an unknown name": (link(a="jobs/b"), "/jobs/a/spec/dataset", "the pipeline has no job b"),
    "a job of another kind": (link(a="d", b="jobs/a"), "/jobs/b/spec/dataset", "kind train, which makes no dataset"),
    "no such record": (link(a="e"), "/jobs/a/spec/dataset", "no dataset named e"),
    "no such record beside a job": (
        {"name": "p", "jobs": {"text": {"spec": BUILD}, "t": {"spec": TRAIN | {"dataset": "jobs/text", "model": "x"}}}},
        "/jobs/t/spec/model",
        "no model named x",
    ),
    "a bad field": ({"name": "p", "jobs": {"t": {"spec": TRAIN | {"steps": 0}}}}, "/jobs/t/spec/steps", "greater"),
    "nothing": ({"name": "p", "jobs": {}}, "/jobs", "at least 1"),
    "too many": ({"name": "p", "jobs": {f"j{n}": {"spec": TRAIN} for n in range(501)}}, "/jobs", "at most 500"),
}


@pytest.mark.parametrize("case", BAD_PIPELINES)
def test_of_a_pipeline_that_cannot_be_nothing_is_queued(
    api: TestClient, world: World, records: None, case: str
) -> None:
    body, where, said = BAD_PIPELINES[case]
    before = rows(world)
    for path in ("pipelines", "estimates/pipeline"):
        answer = api.post(f"{V1}/{path}", json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["where"].startswith(where), answer.text
        assert said in " ".join(str(part) for part in answer.json().values())
    assert rows(world) == before


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_what_waits_for_a_job_ends_as_that_does_and_is_tried_again_with_it(
    api: TestClient, world: World, alice: Tenant, records: None, release: Callable[[], int], state: JobState
) -> None:
    batch = api.post(f"{V1}/pipelines", json=PIPELINE).json()["id"]
    ids = ids_of(api, batch)
    end(world, ids["text"], state)
    assert release() == 3, "what waits for what waits, too"
    assert api.get(f"{V1}/batches/{batch}").json()["states"] == {state.value: 4}
    graph = show(api, ids["graph"])
    assert graph.error is not None
    assert "job t (train), which it waited for, has" in graph.error.detail
    refused = api.post(f"{V1}/jobs/{ids['graph']}/retry")
    assert refused.status_code == 409
    assert "with_dependents" in refused.json()["hint"]

    again = api.post(f"{V1}/jobs/{ids['text']}/retry", params={"with_dependents": True})
    assert again.status_code == 202, again.text
    view = JobView.model_validate(again.json())
    assert view.retry_of is not None
    assert (str(view.retry_of.id), view.state) == (ids["text"], "queued")
    assert api.get(f"{V1}/batches/{batch}").json()["states"] == {"queued": 1, "blocked": 3}
    anew = {job.batch.step: job for job in jobs_of(api, batch)[4:] if job.batch}
    assert anew["train"].spec.dataset == str(view.id)
    assert anew["graph"].spec.coders == anew["measured"].spec.coders == str(anew["train"].id)
    assert api.post(f"{V1}/jobs/{ids['text']}/retry").status_code == 409, "it is being tried again"
    assert api.post(f"{V1}/jobs/{view.id}/retry").status_code == 409, "it has not ended"


def test_a_retry_is_made_once_and_has_the_same_inputs(api: TestClient, world: World, alice: Tenant) -> None:
    first = world.model(alice)
    job = api.post(f"{V1}/jobs", json={"spec": BUILD, "requests": {"cpus": 2}}).json()
    end(world, job["id"], JobState.FAILED)
    world.model(alice)
    key = {"Idempotency-Key": "again"}
    one, two = (api.post(f"{V1}/jobs/{job['id']}/retry", headers=key) for _ in range(2))
    assert (one.status_code, two.status_code) == (202, 200)
    assert one.json() == two.json()
    view = JobView.model_validate(one.json())
    assert (view.parents, view.requests.cpus, view.state) == ([first.id], 2, "queued")
    assert [retry.id for retry in show(api, job["id"]).retries] == [view.id]
    make(world, str(view.id))
    assert api.post(f"{V1}/jobs/{view.id}/retry").status_code == 409, "it has succeeded"
    other = {"Idempotency-Key": "again", "X-Request-ID": "x"}
    assert api.post(f"{V1}/jobs/{view.id}/retry", headers=other).status_code == 409


def test_a_batch_is_tried_again_as_far_as_it_failed(
    api: TestClient, world: World, records: None, release: Callable[[], int]
) -> None:
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


def test_a_subtree_is_cancelled_whether_its_root_has_ended_or_not(
    api: TestClient, world: World, alice: Tenant, records: None, release: Callable[[], int]
) -> None:
    ids = ids_of(api, api.post(f"{V1}/pipelines", json=PIPELINE).json()["id"])
    make(world, ids["text"], world.dataset(alice, "text"))
    release()
    assert api.post(f"{V1}/jobs/{ids['text']}/cancel").status_code == 409
    answer = api.post(f"{V1}/jobs/{ids['text']}/cancel", params={"with_dependents": True})
    assert (answer.status_code, answer.json()["state"]) == (202, "succeeded")
    assert {show(api, ids[name]).state for name in ("train", "measured", "graph")} == {JobState.CANCELLED}
    assert release() == 0
    answer = api.post(f"{V1}/jobs/{ids['text']}/cancel", params={"with_dependents": True})
    assert answer.status_code == 409


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


def test_a_single_job_waits_for_one_that_has_not_ended(
    api: TestClient, world: World, alice: Tenant, records: None, bob: Tenant, release: Callable[[], int]
) -> None:
    text = api.post(f"{V1}/jobs", json={"spec": BUILD}).json()["id"]
    body = {"spec": TRAIN | {"dataset": text}}
    answer = api.post(f"{V1}/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["state"]) == (202, "blocked")
    assert api.post(f"{V1}/jobs", json=body, headers={"Idempotency-Key": "k"}).json() == answer.json()
    wrong = api.post(f"{V1}/jobs", json={"spec": {"kind": "evaluate", "coders": text}})
    assert (wrong.status_code, wrong.json()["where"]) == (422, "/spec/coders")
    assert "which makes no coders" in wrong.json()["detail"]
    both = sweep(grid={"dataset": [text, "d"], "steps": [5, 6]})
    states = api.post(f"{V1}/sweeps", json=both).json()["states"]
    assert states == {"blocked": 2, "queued": 2}, "a sweep of which some wait"
    assert api.post(f"{V1}/estimates/sweep", json=both).json()["published_bytes"] is None
    foreign = api.post(f"{V1}/jobs", json=body, headers=bob.auth)
    assert foreign.status_code == 422
    dataset = world.dataset(alice, "text", context=1024)  # longer than the model's context
    make(world, text, dataset)
    release()
    failed = show(api, answer.json()["id"])
    assert failed.error is not None
    assert (failed.state, failed.error.where) == ("failed", "/spec/dataset")
    assert "rows of 1024 tokens" in failed.error.detail
    assert api.post(f"{V1}/jobs", json=body).status_code == 422
    end_of = api.post(f"{V1}/jobs", json={"spec": BUILD}).json()["id"]
    end(world, end_of, JobState.CANCELLED)
    late = api.post(f"{V1}/jobs", json={"spec": TRAIN | {"dataset": end_of}})
    assert (late.status_code, late.json()["where"]) == (422, "/spec/dataset")
    assert "has been cancelled and made no dataset" in late.json()["detail"]

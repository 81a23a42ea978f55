"""Pipelines, and jobs that wait for others: released as their inputs come, ended and tried again with them."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from tests.clew_api.batches import BUILD, PIPELINE, TRAIN, V1, end, ids_of, jobs_of, make, rows, show, spec_of, sweep
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Job, Model
from clew_lab.catalogue.tokenizing import Tokenizers
from clew_scheduler.release import PUT_OFF_S, release_due
from clew_spec.api import JobView
from clew_spec.attribution import AttributeSpec
from clew_spec.batch_views import BatchView, PipelineEstimate
from clew_spec.errors import Unavailable
from clew_spec.evaluation import EvaluateSpec
from clew_spec.jobs import JobState
from clew_spec.training import TrainSpec


@pytest.fixture
def release(world: World) -> Callable[[], int]:
    """What the scheduler does again and again."""
    tokenizers = Tokenizers(world.store.read)
    return lambda: release_due(world.sessions, tokenizers, world.settings)


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
    assert spec_of(train, TrainSpec).dataset == ids["text"]
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


@pytest.fixture
def waiting(api: TestClient, world: World, alice: Tenant, records: None, release: Callable[[], int]) -> dict[str, str]:
    """The ids of a pipeline's jobs, of which `measured` and `graph` are due; only the latter needs a tokenizer."""
    ids = ids_of(api, api.post(f"{V1}/pipelines", json=PIPELINE).json()["id"])
    dataset = world.dataset(alice, "text")
    make(world, ids["text"], dataset)
    assert release() == 1
    with world.sessions() as session:
        model = session.get_one(Model, show(api, ids["train"]).inputs["model"][0])
    make(world, ids["train"], *world.coders(alice, model, dataset, "t", layers=(0, 1, 2, 3)))
    return ids


def test_a_job_that_cannot_be_released_fails_alone_and_says_why(
    api: TestClient, world: World, waiting: dict[str, str], release: Callable[[], int]
) -> None:
    with world.sessions.begin() as session:
        refused = text("""update jobs set spec = spec || '{"kind": "of another version"}' where id = :id""")
        session.execute(refused, {"id": waiting["measured"]})
    assert release() == 2
    with world.sessions() as session:
        job = session.get_one(Job, UUID(waiting["measured"]))
    assert (job.state, (job.error or {})["type"]) == ("failed", "urn:clew:not-released")
    assert "this version of Clew does not take the job" in (job.error or {})["detail"]
    assert show(api, waiting["graph"]).state == "queued"


def test_what_nobody_foresaw_in_a_file_fails_the_job(api: TestClient, world: World, waiting: dict[str, str]) -> None:
    def read(key: str) -> bytes:
        raise RuntimeError("odd\x00")

    assert release_due(world.sessions, Tokenizers(read), world.settings) == 2
    graph = show(api, waiting["graph"])
    assert graph.state == "failed"
    assert graph.error is not None
    assert (
        graph.error.detail == "what it waited for is there, but RuntimeError was raised: odd\N{REPLACEMENT CHARACTER}"
    )
    assert show(api, waiting["measured"]).state == "queued"


def test_a_job_that_must_wait_for_the_store_keeps_no_other_waiting(
    api: TestClient, world: World, waiting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(key: str) -> bytes:
        asked.append(key)
        raise Unavailable("the store does not answer")

    with world.sessions.begin() as session:  # the oldest of those that are due
        swap = text("""
            update jobs set spec = other.spec, kind = other.kind, pool = other.pool from jobs other
            where (jobs.id = :a and other.id = :b) or (jobs.id = :b and other.id = :a)
        """)
        session.execute(swap, {"a": waiting["measured"], "b": waiting["graph"]})
    put_off: dict[UUID, float] = {}
    assert release_due(world.sessions, Tokenizers(read), world.settings, put_off) == 1
    assert show(api, waiting["graph"]).state == "queued", "though it is behind one that must wait"
    assert show(api, waiting["measured"]).state == "blocked"
    assert release_due(world.sessions, Tokenizers(read), world.settings, put_off) == 0
    assert len(asked) == 1, "it is left alone for a while"
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + PUT_OFF_S)
    assert release_due(world.sessions, Tokenizers(world.store.read), world.settings, put_off) == 1
    assert show(api, waiting["measured"]).state == "queued"


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
    assert spec_of(anew["train"], TrainSpec).dataset == str(view.id)
    assert spec_of(anew["graph"], AttributeSpec).coders == str(anew["train"].id)
    assert spec_of(anew["measured"], EvaluateSpec).coders == str(anew["train"].id)
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
    again = api.post(f"{V1}/jobs/{ids['text']}/cancel", params={"with_dependents": True})
    assert again.status_code == 409
    asked = [row for row in api.get(f"{V1}/audit").json()["items"] if row["action"] == "job.cancel_requested"]
    assert sorted(row["target"] for row in asked) == sorted(ids[name] for name in ("train", "measured", "graph"))
    assert {(row["user"], row["request_id"]) for row in asked} == {("alice", answer.headers["x-request-id"])}


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

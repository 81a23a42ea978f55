"""Models, datasets, coders, graphs, files and workers, as they are shown."""

import hashlib
import math
from datetime import timedelta
from typing import Any

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import func, update
from tests.clew_api.seeds import Tenant, World, graph_document

from clew_lab.catalogue.tables import Coder, Graph, Job, Worker
from clew_spec.api import ArtifactView, CoderView, DatasetView, GraphDetail, GraphView, ModelView, WorkerView
from clew_spec.graph import GraphDocument

V1 = "/api/v1"


def test_records_are_listed_and_shown_alike(api: TestClient, world: World, alice: Tenant) -> None:
    model, dataset = world.model(alice), world.dataset(alice)
    coders = world.coders(alice, model, dataset)
    graph = world.graph(alice, model)
    for path, view, ids in (
        ("models", ModelView, [model.id]),
        ("datasets", DatasetView, [dataset.id]),
        ("coders", CoderView, [coder.id for coder in reversed(coders)]),
        ("graphs", GraphView, [graph.id]),
    ):
        items = api.get(f"{V1}/{path}").json()["items"]
        assert [view.model_validate(item).id for item in items] == ids
        for item in items:
            whole = api.get(f"{V1}/{path}/{item['id']}").json()
            assert whole == item | ({"analyses": []} if path == "graphs" else {})
        assert api.get(f"{V1}/{path}", params={"name": "nobody"}).json()["items"] == []
        assert len(api.get(f"{V1}/{path}", params={"name": items[0]["name"]}).json()["items"]) == len(ids)
        assert api.get(f"{V1}/{path}", params={"name": "\0"}).status_code == 422


def test_coders_are_found_by_their_job_and_model(api: TestClient, world: World, alice: Tenant) -> None:
    models, dataset = [world.model(alice), world.model(alice, "other")], world.dataset(alice)
    sets = [world.coders(alice, model, dataset, f"set-{model.name}") for model in models]
    for model, coders in zip(models, sets, strict=True):
        ids = {str(coder.id) for coder in coders}
        for params in ({"job": str(coders[0].job_id)}, {"model": str(model.id)}, {"name": coders[0].name}):
            assert {item["id"] for item in api.get(f"{V1}/coders", params=params).json()["items"]} == ids
    crossed = {"job": str(sets[0][0].job_id), "model": str(models[1].id)}
    assert api.get(f"{V1}/coders", params=crossed).json()["items"] == []


def test_a_coder_that_came_to_nothing_is_shown_all_the_same(api: TestClient, world: World, alice: Tenant) -> None:
    [coder] = world.coders(alice, world.model(alice), world.dataset(alice), layers=(0,))
    with world.sessions.begin() as session:
        session.execute(update(Coder).values(fvu_last=math.nan))
    answer = api.get(f"{V1}/coders/{coder.id}")
    assert (answer.status_code, answer.json()["fvu_last"]) == (200, None)


def test_files_are_had_by_links_that_need_no_key(api: TestClient, world: World, alice: Tenant) -> None:
    job, content = world.job(alice), b'{"a": 1}' * 100
    world.file(job, "coders/L00/cfg.json", content)
    [view] = [ArtifactView.model_validate(item) for item in api.get(f"{V1}/jobs/{job.id}/artifacts").json()]
    assert view.name == "coders/L00/cfg.json"
    got = httpx2.get(view.url)
    assert got.content == content
    assert hashlib.sha256(got.content).hexdigest() == view.sha256
    assert got.headers["content-disposition"] == 'attachment; filename="cfg.json"'
    assert httpx2.get(view.url.replace("L00", "L01")).status_code == 403


def test_a_graphs_document_comes_as_it_is_stored(api: TestClient, world: World, alice: Tenant) -> None:
    graph = world.graph(alice, world.model(alice))
    url = f"{V1}/graphs/{graph.id}/document"
    answer = api.get(url)
    assert answer.headers["content-encoding"] == "gzip"
    assert GraphDocument.model_validate_json(answer.content) == graph_document()
    plain = api.get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    etag = answer.headers["etag"]
    assert hashlib.sha256(plain.content).hexdigest() in etag
    assert api.get(url, headers={"If-None-Match": etag}).status_code == 304
    head = api.head(url)
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", "application/json")


def test_a_graph_tells_what_was_found_out_with_it_as_far_as_it_is_visible(
    api: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    model = world.model(alice, visibility="lab")
    graph, other = (world.graph(alice, model, visibility="lab") for _ in range(2))

    def analysis(owner: Tenant, of: Graph, state: str = "succeeded", **fields: Any) -> Job:
        ended: dict[str, Any] = {"finished_at": func.now()} if state != "queued" else {}
        job = world.job(owner, kind="paths", spec={"kind": "paths", "graph": "g"}, state=state, **ended, **fields)
        world.touch(job, inputs={"graph": str(of.id)})
        return job

    first, second = analysis(alice, graph), analysis(alice, graph)
    shown = analysis(bob, graph, visibility="lab")
    for owner, of, state in ((alice, graph, "failed"), (alice, graph, "queued"), (alice, other, "succeeded")):
        analysis(owner, of, state)
    analysis(bob, graph)
    view = GraphDetail.model_validate(api.get(f"{V1}/graphs/{graph.id}").json())
    assert [job.id for job in view.analyses] == [shown.id, second.id, first.id]
    assert {job.kind for job in view.analyses} == {"paths"}


def test_workers_are_listed_with_the_jobs_one_may_see(
    api: TestClient, world: World, alice: Tenant, bob: Tenant
) -> None:
    columns = {"pool": "train", "device": "cpu", "memory_bytes": 2**30}
    workers = [Worker(name=name, **columns) for name in ("a", "b", "c")]
    world.add(*workers, Worker(name="gone", **columns, beat_at=func.now() - timedelta(hours=2)))
    held: dict[str, Any] = {"state": "running", "lease_expires_at": func.now() + timedelta(minutes=1)}
    mine = world.job(alice, worker_id=workers[0].id, **held)
    world.job(alice, worker_id=workers[0].id, state="failed", finished_at=func.now())
    world.job(bob, worker_id=workers[1].id, **held)
    views = [WorkerView.model_validate(item) for item in api.get(f"{V1}/workers").json()]
    assert [(view.name, view.job_id) for view in views] == [("a", mine.id), ("b", None), ("c", None)]
    assert all(0 <= view.beat_age_s < 60 for view in views)

"""What Prometheus and an orchestrator are shown."""

import asyncio
import socket
import threading
from collections.abc import Callable
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from tests.clew_api.seeds import Tenant
from tests.support.jobs import Queue, queue
from tests.support.servers import Lab

from clew_api.app import create_app
from clew_api.routers import health
from clew_lab.storage import Store
from clew_spec.errors import Unavailable
from clew_spec.jobs import JobState

__all__ = ["queue"]
V1 = "/api/v1"
NOWHERE = "127.0.0.1:9"


def shown(client: TestClient, **headers: str) -> dict[tuple[str, ...], float]:
    """By name and the values of labels, in the order of their names."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_queue_is_told_by_pool_and_state(anyone: TestClient, queue: Queue) -> None:
    empty = shown(anyone)
    assert empty["clew_jobs", "train", "queued"] == empty["clew_workers", "free", "train"] == 0
    for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING):
        queue.bring(state)
    for _ in range(3):
        queue.accept()
    now = shown(anyone)
    assert now["clew_database_up",] == 1
    assert {state: now["clew_jobs", "train", state] for state in ("queued", "dispatched", "running")} == {
        "queued": 3,
        "dispatched": 0,
        "running": 1,
    }
    assert now["clew_jobs", "circuits", "queued"] == 0
    assert 0 < now["clew_oldest_waiting_seconds", "train"] < 60
    assert now["clew_workers", "busy", "train"] == 1
    assert now["clew_attempts_total", "succeeded"] == now["clew_attempts_total", "failed"] == 1
    assert now["clew_attempts_total", "lost"] == 0


def test_what_strangers_send_adds_no_series_and_no_tenant_is_named(api: TestClient, alice: Tenant) -> None:
    for _ in range(3):
        api.get(f"{V1}/jobs/{uuid4()}")
        api.get(f"/{uuid4()}/{uuid4()}")
        api.request("BREW" + uuid4().hex, f"{V1}/jobs")
    found = shown(api)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "clew_http_request_seconds_count"}
    assert requests["GET", "/jobs/{job_id}", "4xx"] == 3
    assert requests["GET", "other", "4xx"] == 3
    assert sum(value for key, value in requests.items() if key[0] == "other") == 3
    text = api.get("/metrics").text
    assert "alice" not in text
    assert str(alice.actor.project_id) not in text


def test_with_a_token_only_who_has_it_is_shown_anything(make_lab: Callable[..., Lab]) -> None:
    with TestClient(create_app(make_lab(metrics_token="of-prometheus").settings)) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert shown(client, Authorization="Bearer of-prometheus")["clew_database_up",] == 1


@pytest.mark.parametrize(
    ("down", "setting"),
    [
        ("database", {"database_url": f"postgresql+psycopg://clew:x@{NOWHERE}/clew"}),
        ("redis", {"redis_url": f"redis://:x@{NOWHERE}/0"}),
        ("objects", {"s3_endpoint": NOWHERE}),
    ],
)
def test_an_api_that_cannot_work_lives_and_is_not_ready(
    make_lab: Callable[..., Lab], down: str, setting: dict[str, str]
) -> None:
    with TestClient(create_app(make_lab(**setting).settings)) as client:
        assert client.get(f"{V1}/health/live").json()["ok"]
        ready = client.get(f"{V1}/health/ready")
        assert ready.status_code == 503
        assert [name for name, part in ready.json()["components"].items() if not part["ok"]] == [down]
        assert shown(client)["clew_database_up",] == (down != "database")


def test_an_api_that_can_work_is_ready(anyone: TestClient) -> None:
    assert anyone.get(f"{V1}/health/ready").json()["ok"]


def test_a_server_is_asked_once_at_a_time_however_many_want_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        asked, let = threading.Semaphore(0), threading.Semaphore(0)

        def ask() -> None:
            asked.release()
            assert let.acquire(timeout=30)

        probe = health.Probe("objects", ask)
        monkeypatch.setattr(health, "PATIENCE_S", 0.01)
        for _ in range(3):
            late = await asyncio.gather(*(probe.health() for _ in range(100)))
            assert {answer.detail for answer in late} == {"no answer in 0.01 s"}
        monkeypatch.setattr(health, "PATIENCE_S", 30)
        shared = asyncio.gather(*(probe.health() for _ in range(100)))
        await asyncio.sleep(0)  # so that they have asked
        let.release()
        assert all(answer.ok for answer in await shared)
        assert asked.acquire(timeout=30)
        assert not asked.acquire(blocking=False), "once for all of them"
        let.release()
        assert (await probe.health()).ok
        assert asked.acquire(blocking=False), "and anew once that is over"

    asyncio.run(run())


def test_an_object_store_that_takes_questions_and_answers_none_is_down(make_lab: Callable[..., Lab]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = make_lab(s3_endpoint=f"127.0.0.1:{mute.getsockname()[1]}").settings
        with pytest.raises(Unavailable):
            Store.of(settings, patience_s=0.1).stat("health")
        with TestClient(create_app(settings)) as client:
            components = client.get(f"{V1}/health").json()["components"]
            assert [name for name, part in components.items() if not part["ok"]] == ["objects"]

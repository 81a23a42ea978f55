"""The frame around the routes: health, headers, the dashboard, the log, the process."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from tests.clew_api.seeds import Tenant, World
from tests.support.servers import Lab

from clew_api.app import create_app
from clew_lab.catalogue.keys import new_key
from clew_spec.api import Health
from clew_spec.errors import Problem
from clew_spec.jobs import JobRequest

V1 = "/api/v1"
NOWHERE = "127.0.0.1:9"


def test_health_names_what_is_down(make_lab: Callable[..., Lab], lab: Lab) -> None:
    everything = {"database": True, "redis": True, "objects": True}
    broken = {
        "database": {"database_url": f"postgresql+psycopg://clew:hidden@{NOWHERE}/clew"},
        "redis": {"redis_url": f"redis://:hidden@{NOWHERE}/0"},
        "objects": {"s3_endpoint": NOWHERE},
    }
    for down, overrides in [(None, {}), *broken.items()]:
        with TestClient(create_app(make_lab(**overrides).settings)) as client:
            answer = client.get(f"{V1}/health")
            health = Health.model_validate(answer.json())
            assert {name: part.ok for name, part in health.components.items()} == everything | (
                {down: False} if down else {}
            )
            assert (answer.status_code, health.ok) == ((503, False) if down else (200, True))
            assert not any(secret in answer.text for secret in ("hidden", NOWHERE))
            assert client.head(f"{V1}/health").status_code == answer.status_code
            if down == "database":
                refused = client.get(f"{V1}/jobs", headers={"Authorization": f"Bearer {new_key()}"})
                assert (refused.status_code, refused.json()["type"]) == (503, "urn:clew:unavailable")
                assert "retry-after" in refused.headers


def test_every_answer_carries_its_id_and_headers(api: TestClient, lab: Lab) -> None:
    for path in (f"{V1}/health", f"{V1}/jobs", f"{V1}/nothing", "/", "/assets/app-1a2b3c.js"):
        answer = api.get(path, headers={"X-Request-ID": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        policy = answer.headers["content-security-policy"].split("; ")
        assert {
            "default-src 'none'",
            "script-src 'self'",
            f"connect-src 'self' http://{lab.settings.s3_endpoint}",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        } <= set(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
    for strange in ("x" * 200, "a b", "-"):
        made = api.get(f"{V1}/jobs", headers={"X-Request-ID": strange}).headers["x-request-id"]
        assert len(made) == 32


def test_an_asset_that_was_packed_is_sent_as_it_is_to_who_takes_it(api: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "dist" / "assets" / "app-1a2b3c.js"
    plain = path.read_bytes()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(plain))
    for taken, encoding in (("gzip, br", "gzip"), ("br", None), ("identity", None)):  # of br there is none
        answer = api.get("/assets/app-1a2b3c.js", headers={"Accept-Encoding": taken})
        assert answer.content == plain
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_the_dashboard_finds_its_way_and_the_api_keeps_its_own(api: TestClient) -> None:
    page = {"Accept": "text/html,*/*"}
    for path in ("/", "/jobs/123", "/index.html"):
        answer = api.get(path, headers=page)
        assert (answer.status_code, answer.text) == (200, "<title>Clew</title>")
        assert answer.headers["cache-control"] == "no-cache"
    asset = api.get("/assets/app-1a2b3c.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert api.get("/favicon.svg").headers["cache-control"] == "no-cache"
    assert api.head("/").status_code == 200
    for path in ("/assets/gone.js", f"{V1}/nothing", "/api/v2", "/../conftest.py", "/%2e%2e/%2e%2e/etc/passwd"):
        answer = api.get(path, headers=page)
        if answer.status_code == 200:  # a path that a browser would show
            assert answer.text == "<title>Clew</title>"
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert Problem.model_validate(answer.json()).status == answer.status_code == 404
    assert api.get("/nothing.json", headers={"Accept": "application/json"}).status_code == 404
    assert api.post("/jobs").status_code == 405
    refused = api.delete("/api/v1/jobs")
    assert (refused.status_code, refused.headers["Allow"]) == (405, refused.json()["expected"]) == (405, "GET, POST")


def test_what_nobody_expected_is_logged_and_not_told(
    app: FastAPI, world: World, alice: Tenant, capfd: pytest.CaptureFixture[str]
) -> None:
    @app.get(f"{V1}/broken")
    def broken() -> None:
        raise RuntimeError("the inside of the machine")

    app.router.routes.insert(0, app.router.routes.pop())
    with TestClient(app) as client:
        answer = client.get(f"{V1}/broken", headers={"X-Request-ID": "find-me"})
    problem = Problem.model_validate(answer.json())
    assert (answer.status_code, problem.request_id) == (500, "find-me")
    assert "machine" not in answer.text
    assert "X-Request-ID".lower() in answer.headers
    told = "".join(capfd.readouterr())
    assert "find-me" in told
    assert "the inside of the machine" in told


def test_the_contract_needs_neither_server_nor_setting(app: FastAPI) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    command = [sys.executable, "-m", "clew_api.openapi"]
    printed = subprocess.run(command, env=environ, capture_output=True, check=True, text=True).stdout
    document = json.loads(printed)
    with TestClient(app) as client:
        assert client.get(f"{V1}/openapi.json").json()["paths"] == document["paths"]
    schemas = document["components"]["schemas"]
    assert {"Problem", "JobRequest", "JobView", "EventView", "GraphDocument", "MetricSeries"} <= set(schemas)
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and operation["operationId"] not in ("get_health", "get_readiness"):
                assert list(response["content"]) == ["application/problem+json"]
    request = JobRequest.model_validate({"spec": {"kind": "build-dataset", "name": "d", "model": "m"}})
    Draft202012Validator({"$ref": "#/components/schemas/JobRequest", **document}).validate(request.model_dump())


def test_the_process_serves_logs_without_secrets_and_stops_when_told(
    lab: Lab, world: World, alice: Tenant, tmp_path: Path
) -> None:
    environ = os.environ | lab.environ
    url = f"http://127.0.0.1:{lab.settings.api_port}{V1}"
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "clew_api"], env=environ, stdout=out, stderr=out)
    try:
        while not _answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert httpx2.post(f"{url}/session", json={"key": alice.key}).status_code == 200
        with httpx2.stream("GET", f"{url}/stream", headers=alice.auth, timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": open"
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) in (0, -signal.SIGTERM)
            assert not any(line.startswith("id") for line in lines)
    finally:
        process.kill()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    requests = [entry for entry in entries if entry["event"] == "request"]
    assert {entry["path"] for entry in requests} == {f"{V1}/health", f"{V1}/session", f"{V1}/stream"}
    assert all(len(entry["request_id"]) == 32 and entry["service"] == "api" for entry in requests)
    assert [entry["project"] for entry in requests if entry["path"] == f"{V1}/stream"] == ["alice"]
    secrets = [alice.key, lab.settings.secret_key.get_secret_value(), lab.settings.database_url.get_secret_value()]
    assert not any(secret in log.read_text() for secret in secrets)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 200
    except httpx2.TransportError:
        return False

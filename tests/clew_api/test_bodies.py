"""Bodies of any size cost who sent them, and nobody else."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from structlog.testing import CapturingLogger
from tests.clew_api.batches import sweep
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant
from tests.support.waiting import until

from clew_api import body, context

V1 = "/api/v1"
JSON = {"Content-Type": "application/json"}


def test_while_a_large_body_is_parsed_others_are_answered(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, let, parse = threading.Event(), threading.Event(), body.parse

    def held(content: bytes, model: Any) -> Any:
        if len(content) > body.SMALL_BYTES:
            begun.set()
            assert let.wait(60), "nobody else was answered meanwhile"
        return parse(content, model)

    monkeypatch.setattr(body, "parse", held)
    large = sweep(points=[{"steps": 0}] * body.SMALL_BYTES)
    with ThreadPoolExecutor() as pool:
        try:
            asked = pool.submit(api.post, f"{V1}/sweeps", json=large)
            assert begun.wait(60)
            assert api.get(f"{V1}/jobs").status_code == 200
            assert api.post(f"{V1}/jobs", json={}).status_code == 422, "a small body neither"
            assert not asked.done()
        finally:
            let.set()
        assert asked.result().json()["where"] == "/grid", "and it is read as it stands"


def test_who_goes_in_the_midst_of_a_question_is_no_crash(
    running: Running, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, log = urlsplit(running.url), CapturingLogger()
    monkeypatch.setattr(context, "log", log)
    with socket.create_connection((url.hostname, url.port)) as gone:
        head = f"POST {url.path}/jobs HTTP/1.1\r\nHost: clew.test\r\nAuthorization: Bearer {alice.key}\r\n"
        gone.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{".encode())
        until(lambda: running.app.state.lab.engine.pool.checkedin() > 0, "asked whose key it is")
    until(lambda: len(log.calls) > 0, "told")
    assert [(call.args[0], call.kwargs.get("status")) for call in log.calls] == [("request", 499)]


def test_a_stranger_sends_little(anyone: TestClient) -> None:
    content = b'{"name": "ada", "password": "' + b"x" * body.SMALL_BYTES + b'"}'
    answer = anyone.post(f"{V1}/session", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["expected"]) == (413, f"at most {body.SMALL_BYTES} bytes")
    utmost = {"name": "n" * 100, "password": "\U0001f9f6" * 1024}  # escaped, twelve bytes each
    assert anyone.post(f"{V1}/session", json=utmost).status_code == 401


@pytest.mark.parametrize("values", [b"1", b"{}", b'{"steps":[]}'])
def test_more_values_than_anything_has_are_not_even_read(
    api: TestClient, monkeypatch: pytest.MonkeyPatch, values: bytes
) -> None:
    monkeypatch.setattr(body, "json", None)  # nothing looks at them
    content = b'{"points": [' + b",".join([values] * body.MAX_VALUES) + b"]}"
    answer = api.post(f"{V1}/sweeps", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["detail"]) == (413, "the body has too many values")


def test_many_faults_are_counted_where_they_cannot_be_told(api: TestClient) -> None:
    def told(number: int) -> Any:
        answer = api.post(f"{V1}/sweeps", json=sweep(points=[1] * number))
        assert answer.status_code == 422
        return answer.json()

    listed = told(body.MAX_ERRORS)
    assert (listed["where"], len(listed["errors"])) == ("/points/0", 50)
    assert told(body.MAX_ERRORS + 1)["detail"] == f"{body.MAX_ERRORS + 1:,} values of the body are wrong"

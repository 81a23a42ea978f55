"""Requests, retries and errors, over a real socket."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from tests.clew_client.conftest import FAST
from tests.clew_client.contract import KEY, Contract, problem_answer
from tests.clew_client.specs import EVALUATE

from clew_client import JobFailed, Lab
from clew_client.credentials import Credentials, credentials_path, store
from clew_client.errors import UnexpectedAnswer
from clew_spec.api import JobView
from clew_spec.errors import (
    KINDS,
    ClewError,
    Conflict,
    InvalidSpec,
    NotAuthenticated,
    NotFound,
    Problem,
    Unavailable,
)
from clew_spec.jobs import JobRequest, JobState


def test_a_lost_answer_is_asked_for_again_and_still_one_job(contract: Contract, client: Lab) -> None:
    contract.lose = 2
    job = client.submit(EVALUATE)
    assert contract.seen("POST", "/jobs") == 3
    assert list(contract.jobs) == [job.id]
    assert job.view.spec == EVALUATE.spec
    # A second call is a second job; the same idempotency key is the same job.
    assert client.submit(EVALUATE, idempotency_key="mine").id == client.submit(EVALUATE, idempotency_key="mine").id
    assert len(contract.jobs) == 2


def test_submit_takes_every_field_of_a_request_and_a_clone_keeps_them(contract: Contract, client: Lab) -> None:
    fields: dict[str, Any] = {
        "priority": "high",
        "max_retries": 2,
        "visibility": "lab",
        "requests": {"gpus": 1, "memory_bytes": 2**30},
        "reuse": False,
    }
    assert {"spec", *fields} == set(JobRequest.model_fields)
    asked = JobRequest.model_validate({"spec": EVALUATE.spec, **fields})
    job = client.submit(EVALUATE.spec, **fields)
    assert contract.requests[-1][2] == asked
    # Whether an old answer would have done is not kept of a job: it is a matter of each request.
    assert client.cloned(job.id) == asked.model_copy(update={"reuse": True})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_faults_are_tried_again(contract: Contract, client: Lab, status: int) -> None:
    job = contract.add(EVALUATE)
    contract.answers.extend([Response(status_code=status, headers={"Retry-After": "0"}), Response(status_code=status)])
    assert client.job(job.id).view == job
    assert contract.seen("GET", f"/jobs/{job.id}") == 3


@pytest.mark.parametrize(
    ("act", "tries"),
    [(lambda lab: list(lab.jobs()), FAST.attempts), (lambda lab: lab.cancel(uuid4()), 1)],
    ids=["idempotent", "not idempotent"],
)
def test_trying_again_has_an_end(contract: Contract, client: Lab, act: Callable[[Lab], object], tries: int) -> None:
    contract.answers.extend(Response(status_code=503) for _ in range(10))
    with pytest.raises(Unavailable):
        act(client)
    assert len(contract.requests) == tries


def test_a_long_retry_after_is_the_callers_decision(contract: Contract, client: Lab) -> None:
    problem = Unavailable("over quota", hint="tomorrow").problem()
    contract.answers.append(problem_answer(problem, **{"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}))
    with pytest.raises(Unavailable, match="over quota"):
        list(client.models())
    assert len(contract.requests) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.code))
def test_every_problem_comes_back_as_the_error_it_was(contract: Contract, client: Lab, kind: type[ClewError]) -> None:
    inner = InvalidSpec("inner", where="/spec/b").problem()
    sent = kind("no", where="/spec/coder/k", expected="less", hint="ask for less", errors=[inner])
    contract.answers.extend(problem_answer(sent.problem(request_id="r1")) for _ in range(FAST.attempts))
    with pytest.raises(ClewError) as caught:
        client.job(uuid4())
    assert type(caught.value) is kind
    assert caught.value.problem() == sent.problem()


def test_a_problem_of_an_unknown_kind_keeps_its_words_and_its_request_id(contract: Contract, client: Lab) -> None:
    problem = Problem(type="urn:clew:teapot", title="Teapot", status=500, detail="short and stout", request_id="r42")
    contract.answers.append(problem_answer(problem))
    with pytest.raises(ClewError, match=r"short and stout.*r42"):
        client.job(uuid4())


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>Welcome to nginx</h1>"),
        HTMLResponse("no", status_code=404),
        JSONResponse({"id": 1}),
        RedirectResponse("http://127.0.0.1:1/elsewhere"),
    ],
    ids=["html", "404", "other json", "redirect"],
)
def test_another_server_is_told_from_a_lab(contract: Contract, client: Lab, answer: Response) -> None:
    contract.answers.append(answer)
    with pytest.raises(UnexpectedAnswer):
        client.job(uuid4())
    assert len(contract.requests) == 1


def test_nobody_there() -> None:
    with (
        Lab("http://127.0.0.1:1", KEY, retry=FAST) as lab,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"),
    ):
        lab.health()


def test_pages_are_followed_to_the_end_and_to_the_limit(contract: Contract, client: Lab) -> None:
    ids = [contract.add(EVALUATE).id for _ in range(250)]
    assert [job.id for job in client.jobs()] == ids[::-1]
    assert [job.id for job in client.jobs(limit=130)] == ids[:-131:-1]
    contract.jobs[ids[7]].state = JobState.FAILED
    assert [job.id for job in client.jobs(state=[JobState.FAILED], kind=["evaluate", "train"])] == [ids[7]]
    assert list(client.jobs(kind=["train"])) == []


def test_what_is_asked_is_checked_before_it_is_sent(contract: Contract, client: Lab) -> None:
    spec = {"kind": "train", "name": "a", "model": "m", "dataset": "d", "layers": [0], "steps": "9"}
    with pytest.raises(InvalidSpec) as caught:
        client.submit({**spec, "coder": {"activation": {"k": 0}}, "lyers": 1})
    assert {problem.where for problem in caught.value.errors or []} == {
        "/spec/steps",
        "/spec/coder/activation/k",
        "/spec/lyers",
    }
    with pytest.raises(InvalidSpec) as caught:
        client.submit({"kind": "trian"})
    assert caught.value.where == "/spec/kind"
    assert "train" in (caught.value.expected or "")
    with pytest.raises(InvalidSpec, match="`name` is missing"):
        client.submit({"kind": "import-model", "path": "/m"})
    assert not contract.requests


def test_health_is_told_even_when_it_is_bad(contract: Contract) -> None:
    contract.healthy = False
    with Lab(contract.url) as lab:
        assert lab.health().components["postgres"].detail == "refused"
    assert len(contract.requests) == 1


def test_waiting_for_a_job_that_fails(contract: Contract, client: Lab) -> None:
    def fail(job: JobView) -> None:
        contract.happen(job, "progress", phase="x", done=1, total=2, unit="rows")
        contract.end(job, JobState.FAILED, Conflict("the loss is NaN", hint="lower lr").problem())

    contract.on_submit = fail
    seen: list[int] = []
    job = client.submit(EVALUATE)
    assert job.wait(lambda event: seen.append(event.seq)).state is JobState.FAILED
    assert seen == [1, 2]
    with pytest.raises(JobFailed, match="the loss is NaN") as caught:
        client.wait(job.id, check=True)
    assert caught.value.hint == "lower lr"
    assert caught.value.job.error is not None
    with pytest.raises(Conflict):
        client.cancel(job.id)


# Credentials


def test_the_stored_key_goes_to_the_stored_lab_alone(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(Credentials(contract.url, KEY))
    assert path == credentials_path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    with Lab() as lab:
        assert lab.session().key_name == "admin"
    with Lab(contract.url + "/api/v1/") as lab:
        assert lab.session().key_name == "admin"
    monkeypatch.setenv("CLEW_URL", contract.url.replace("127.0.0.1", "localhost"))
    with Lab() as lab, pytest.raises(NotAuthenticated):
        lab.session()


def test_credentials_that_others_can_read_are_refused(contract: Contract) -> None:
    path = store(Credentials(contract.url, KEY))
    path.chmod(0o640)
    with pytest.raises(NotAuthenticated, match="chmod 600"):
        Lab()
    assert KEY not in repr(Credentials(contract.url, KEY))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"url": "http://x"}', '{"url": "ftp://x", "key": "k"}', '{"url": 1, "key": 2}']
)
def test_unreadable_credentials_say_so(contract: Contract, text: str) -> None:
    path = Path(os.environ["CLEW_CONFIG"])
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(ClewError) as caught:
        Lab()
    assert caught.value.expected


def test_no_lab_known(contract: Contract) -> None:
    with pytest.raises(NotAuthenticated, match="clew login"):
        Lab()


def test_ids_that_are_none_go_nowhere(contract: Contract, client: Lab) -> None:
    for act in (client.job, client.cancel, client.graph_document, client.metrics, client.events):
        with pytest.raises(InvalidSpec, match="not an id"):
            act("../session")
    assert not contract.requests
    with pytest.raises(NotFound):
        client.job(uuid4())

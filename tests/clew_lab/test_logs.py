"""What is logged is JSON, knows what it belongs to, and shows no secret."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.servers import Lab

from clew_lab.logs import HIDDEN, without_secrets

SECRET = "Xk7" * 12
PROGRAM = f"""
import logging, structlog, sys
from clew_lab import logs
from clew_lab.settings import Settings
logs.configure("api", Settings())
log = structlog.get_logger("clew_test")
with structlog.contextvars.bound_contextvars(job_id="j", fence=3, request_id="r"):
    log.info("claimed", password="{SECRET}", url="postgresql://clew:{SECRET}@db/clew")
    logging.getLogger("celery").warning("connecting to %s", "redis://:{SECRET}@127.0.0.1:6379/0")
    try:
        raise RuntimeError("no login with clew_{SECRET}")
    except RuntimeError:
        log.exception("failed", headers={{"Authorization": "Bearer {SECRET}", "n_tokens": 7}})
        logging.getLogger("sqlalchemy").exception("lost")
"""


def _run(lab: Lab, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=lab.environ | environ, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_each_line_is_json_with_what_it_belongs_to_and_without_secrets(lab: Lab) -> None:
    said = _run(lab)
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["event"].split()[0] for line in lines] == ["claimed", "connecting", "failed", "lost"]
    for line in lines:
        assert {"job_id": "j", "fence": 3, "request_id": "r", "service": "api"}.items() <= line.items()
        assert {"timestamp", "level", "logger"} <= line.keys()
    assert lines[2]["headers"] == {"Authorization": HIDDEN, "n_tokens": 7}
    assert "RuntimeError" in lines[2]["exception"], "the traceback stays, without its secret"
    assert SECRET not in said


def test_for_people_it_is_text_without_secrets(lab: Lab) -> None:
    said = _run(lab, CLEW_LOG_FORMAT="console")
    assert "claimed" in said
    assert not said.startswith("{")
    assert SECRET not in said


WRAPPED = st.sampled_from(
    [
        "clew_{}",
        "redis://:{}@host/0",
        "https://user:{}@host/path",
        "Authorization: Bearer {}",
        "https://s3/key?X-Amz-Signature={}&x=1",
        "host=db password={} user=clew",
    ]
)
PLACES = st.recursive(
    WRAPPED.map(lambda text: text.format(SECRET)) | st.builds(lambda: {"api_key": SECRET, "Cookie": SECRET}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@given(PLACES, st.text(max_size=20))
def test_a_secret_is_found_wherever_it_lies(place: object, around: str) -> None:
    event = without_secrets(None, "", {"event": "x", "place": place, "text": around})
    assert SECRET not in json.dumps(event)


@pytest.mark.parametrize("name", ["n_tokens", "tokens_per_s", "key", "keystroke", "monkey"])
def test_what_is_no_secret_is_shown(name: str) -> None:
    assert without_secrets(None, "", {"event": "x", name: "plain"})[name] == "plain"

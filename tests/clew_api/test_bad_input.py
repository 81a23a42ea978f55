"""Whatever is wrong with a request, the answer says what and where, and nothing is queued."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from tests.clew_api.seeds import MAX_CONTEXT, Tenant, World

from clew_lab.catalogue.tables import Coder, Job
from clew_spec.errors import Problem

JOBS = "/api/v1/jobs"
IMPORT = {"kind": "import-model", "name": "m2"}
BUILD = {"kind": "build-dataset", "name": "d2", "model": "m"}
TRAIN = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [0], "steps": 5}
EVALUATE = {"kind": "evaluate", "coders": "set"}
ATTRIBUTE = {"kind": "attribute", "name": "g", "coders": "set", "prompt": "when mary and john"}

EDIT = {"layer": 0, "feature": 1, "operation": "ablate"}
STEER = {"kind": "steer", "coders": "set", "prompt": "when mary and john", "edits": [EDIT]}

PATCH = {"kind": "patch", "model": "m", "clean": "when mary went", "corrupt": "when john went"}
EDGE = {"kind": "edge", "graph": "g9", "source": "L0/F1@1", "target": "logit"}
QK = {"kind": "qk", "graph": "g", "head": "L1H0", "query": 1, "key": 0}
MEAN = {"kind": "mean-edges", "coders": "set", "layer": 0, "feature": 1}
CONNECTIONS = {"kind": "connections", "coders": "set", "layer": 1, "feature": 5}
PATHS = {"kind": "paths", "graph": "g"}
OF_FEATURE = {"kind": "feature", "layer": 1, "feature": 5, "position": 1}

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown kind": ({"kind": "dance"}, "/spec/kind", "train"),
    "no kind": ({"name": "m2"}, "/spec/kind", ""),
    "unknown field": (TRAIN | {"modle": "m"}, "/spec/modle", "did you mean `model`?"),
    "unknown field inside": (TRAIN | {"coder": {"kk": 1}}, "/spec/coder/kk", "activation"),
    "wrong type": (TRAIN | {"steps": "5"}, "/spec/steps", "a valid integer"),
    "wrong type inside": (TRAIN | {"coder": {"activation": {"k": 1.5}}}, "/spec/coder/activation/k", "integer"),
    "wrong type in a list": (TRAIN | {"layers": [0, True]}, "/spec/layers/1", "integer"),
    "missing field": ({"kind": "import-model", "name": "m2"}, "/spec/path", "is missing"),
    "bad name": (BUILD | {"name": "No Spaces"}, "/spec/name", "pattern"),
    "k of zero": (
        TRAIN | {"coder": {"activation": {"k": 0}}},
        "/spec/coder/activation/k",
        "greater than or equal to 1",
    ),
    "k above the features": (
        TRAIN | {"coder": {"activation": {"k": 65}, "n_features": 64}},
        "/spec/coder/activation/k",
        "above n_features = 64",
    ),
    "default k above the features": (TRAIN | {"coder": {"n_features": 8}}, "/spec/coder", "above n_features = 8"),
    "repeated layer": (TRAIN | {"layers": [0, 0]}, "/spec/layers", "distinct"),
    "negative layer": (TRAIN | {"layers": [-1]}, "/spec/layers", "count from 0"),
    "layer out of range": (TRAIN | {"layers": [0, 4]}, "/spec/layers/1", "0 to 3"),
    "astronomical layer": (TRAIN | {"layers": [10**30]}, "/spec/layers/0", "0 to 3"),
    "missing model": (BUILD | {"model": "m3"}, "/spec/model", "no model named m3"),
    "model of another kind": (BUILD | {"model": "d"}, "/spec/model", "no model named d"),
    "missing dataset": (TRAIN | {"dataset": "d3"}, "/spec/dataset", "no dataset named d3"),
    "missing coders": (EVALUATE | {"coders": "set3"}, "/spec/coders", "no coder named set3"),
    "a UUID of nothing": (EVALUATE | {"coders": "0" * 32}, "/spec/coders", "no coder named"),
    "another tokenizer's dataset": (TRAIN | {"dataset": "foreign"}, "/spec/dataset", "another tokenizer"),
    "another tokenizer's dataset to evaluate": (
        EVALUATE | {"dataset": "foreign"},
        "/spec/dataset",
        "another tokenizer",
    ),
    "rows too long": (TRAIN | {"dataset": "long"}, "/spec/dataset", f"at most {MAX_CONTEXT} tokens"),
    "context too long": (BUILD | {"context": MAX_CONTEXT + 1}, "/spec/context", f"at most {MAX_CONTEXT} tokens"),
    "a step shorter than a row": (
        TRAIN | {"dataset": "wide", "tokens_per_step": 16},
        "/spec/tokens_per_step",
        "at least 64",
    ),
    "nothing held out": (EVALUATE | {"dataset": "seen"}, "/spec/dataset", "holds out no text"),
    "another bos to evaluate": (EVALUATE | {"dataset": "bossy"}, "/spec/dataset", "bos"),
    "another bos to attribute": (ATTRIBUTE | {"bos": "bos"}, "/spec/bos", "'none'"),
    "no such token": (BUILD | {"bos": "<nothing>"}, "/spec/bos", "no token '<nothing>'"),
    "empty prompt": (ATTRIBUTE | {"prompt": ""}, "/spec/prompt", "at least 1 character"),
    "prompt without tokens": (ATTRIBUTE | {"prompt": " \n "}, "/spec/prompt", "no tokens"),
    "prompt too long": (ATTRIBUTE | {"prompt": "mary " * 513}, "/spec/prompt", "has 513 tokens"),
    "endless prompt": (ATTRIBUTE | {"prompt": "x" * 20_001}, "/spec/prompt", "at most 20000"),
    "path outside": (IMPORT | {"path": "/etc"}, "/spec/path", "imports"),
    "path that climbs out": (IMPORT | {"path": "{root}/../secrets"}, "/spec/path", "normal path"),
    "path beside the root": (IMPORT | {"path": "{root}-2/m"}, "/spec/path", "outside the import roots"),
    "path through a link": (IMPORT | {"path": "{root}/link/m"}, "/spec/path", "outside the import roots"),
    "relative path": (IMPORT | {"path": "models/m"}, "/spec/path", "absolute"),
    "a model by URL": (IMPORT | {"path": "http://169.254.169.254/m"}, "/spec/path", "absolute"),
    "a model of no hub": (IMPORT | {"path": "hf:http://127.0.0.1/m"}, "/spec/path", "hf:owner/name"),
    "an upload that is none": (IMPORT | {"path": "upload:nothing"}, "/spec/path", "complete upload"),
    "texts by URL": (
        BUILD | {"source": {"kind": "text", "path": "https://10.0.0.1/a.txt"}},
        "/spec/source/path",
        "absolute",
    ),
    "path of a text": (IMPORT | {"path": "{root}/notes.txt"}, "/spec/path", ".gguf"),
    "texts outside": (BUILD | {"source": {"kind": "text", "path": "/etc"}}, "/spec/source/path", "imports"),
    "texts that climb out": (
        BUILD | {"source": {"kind": "jsonl", "path": "{root}/../secrets"}},
        "/spec/source/path",
        "normal path",
    ),
    "texts through a link": (
        BUILD | {"source": {"kind": "parquet", "path": "{root}/link/m"}},
        "/spec/source/path",
        "outside the import roots",
    ),
    "texts of another ending": (
        BUILD | {"source": {"kind": "jsonl", "path": "{root}/notes.txt"}},
        "/spec/source/path",
        ".jsonl.gz",
    ),
    "unknown source": (BUILD | {"source": {"kind": "ftp"}}, "/spec/source/kind", "'parquet'"),
    "a hub by URL": (
        BUILD | {"source": {"kind": "hf", "repo": "https://host/lab/notes"}, "max_tokens": 1000},
        "/spec/source/repo",
        "pattern",
    ),
    "a hub without end": (BUILD | {"source": {"kind": "hf", "repo": "lab/notes"}}, "/spec/source/kind", "max_tokens"),
    "an SAE to attribute": (ATTRIBUTE | {"coders": "sae"}, "/spec/coders", "write mlp.out from mlp.in"),
    "a part of a cross-layer transcoder": ({"kind": "evaluate", "coders": "crossing"}, "/spec/coders", "layers [1]"),
    "a part of one to attribute": (ATTRIBUTE | {"coders": "crossing"}, "/spec/coders", "layers [1]"),
    "an SAE to steer": (STEER | {"coders": "sae"}, "/spec/coders", "write mlp.out from mlp.in"),
    "nothing to edit": (STEER | {"edits": []}, "/spec/edits", "at least 1 item"),
    "an edit without its value": (STEER | {"edits": [EDIT | {"operation": "set"}]}, "/spec/edits/0", "takes a value"),
    "an edit that ends before it begins": (
        STEER | {"edits": [EDIT | {"start": 3, "stop": 2}]},
        "/spec/edits/0/stop",
        "is not after start = 3",
    ),
    "an edit of the first position": (
        STEER | {"edits": [EDIT | {"start": 0}]},
        "/spec/edits/0/start",
        "position 0 has no features",
    ),
    "an edit of no coder": (STEER | {"edits": [EDIT, EDIT | {"layer": 3}]}, "/spec/edits/1/layer", "no coder"),
    "an edit of no feature": (STEER | {"edits": [EDIT | {"feature": 10**6}]}, "/spec/edits/0/feature", "0 to "),
    "an edit behind the prompt": (STEER | {"edits": [EDIT | {"start": 4}]}, "/spec/edits/0/start", "has 4 tokens"),
    "more text than the model reads": (STEER | {"tokens": 510}, "/spec/tokens", "at most 509"),
    "an edit beyond the prompt": (STEER | {"edits": [EDIT | {"stop": 5}]}, "/spec/edits/0/stop", "positions 1 to 3"),
    "a graph and a prompt": (STEER | {"graph": "g"}, "/spec", "give it alone"),
    "neither graph nor prompt": ({"kind": "steer", "edits": [EDIT]}, "/spec", "or a graph"),
    "a graph that is not there": (
        {"kind": "steer", "edits": [EDIT], "graph": "g9"},
        "/spec/graph",
        "no graph named g9",
    ),
    "frozen text": (STEER | {"frozen": True, "tokens": 2}, "/spec", "while frozen"),
    "no graph to try out": ({"kind": "faithfulness", "graph": "g9"}, "/spec/graph", "no graph named g9"),
    "too few paraphrases": (
        {"kind": "faithfulness", "graph": "g", "paraphrases": ["a", "b"]},
        "/spec/paraphrases",
        "at least 3 paraphrases",
    ),
    "prompts of different length": (
        PATCH | {"corrupt": "john went"},
        "/spec/corrupt",
        "3 tokens and the corrupt one 2",
    ),
    "an answer of several tokens": (PATCH | {"answer": "and john"}, "/spec/answer", "'john'"),
    "two answers that are one": (PATCH | {"answer": "and", "wrong": "and"}, "/spec/wrong", "the same token"),
    "a patch of no layer": (PATCH | {"layers": [0, 4]}, "/spec/layers/1", "0 to 3"),
    "a patch twice": (PATCH | {"places": ["resid", "resid"]}, "/spec/places", "given twice"),
    "a patch of nothing known": (PATCH | {"places": ["attn"]}, "/spec/places/0", "'attn.out'"),
    "no node": (EDGE | {"source": "L1/F2"}, "/spec/source", "pattern"),
    "an edge of no graph": (EDGE, "/spec/graph", "no graph named g9"),
    "scores of no graph": (QK | {"graph": "g9"}, "/spec/graph", "no graph named g9"),
    "scores of no head's name": (QK | {"head": "9.9"}, "/spec/head", "pattern"),
    "data for no coder": (MEAN | {"layer": 3}, "/spec/layer", "no coder among"),
    "data for no feature": (MEAN | {"feature": 10**6}, "/spec/feature", "0 to "),
    "data that is not held out": (MEAN | {"dataset": "seen"}, "/spec/dataset", "holds out no text"),
    "connections of no coder": (CONNECTIONS | {"layer": 3}, "/spec/layer", "layers 0, 1"),
    "connections of no feature": (CONNECTIONS | {"feature": 32}, "/spec/feature", "0 to 31"),
    "connections of an SAE": (CONNECTIONS | {"coders": "sae"}, "/spec/coders", "write mlp.out from mlp.in"),
    "connections of a part": (CONNECTIONS | {"coders": "crossing"}, "/spec/coders", "layers [1]"),
    "connections of two models": (CONNECTIONS | {"coders": "mixed"}, "/spec/coders", "coders of one model"),
    "a head that is not there": (CONNECTIONS | {"heads": ["L3H1", "L3H2"]}, "/spec/heads/1", "H0 to H1"),
    "a head above all": (CONNECTIONS | {"heads": ["L4H0"]}, "/spec/heads/0", "no head L4H0"),
    "a head by another name": (CONNECTIONS | {"heads": ["3.1"]}, "/spec/heads/0", "pattern"),
    "a head twice": (CONNECTIONS | {"heads": ["L3H1", "L03H1"]}, "/spec/heads", "distinct"),
    "paths of no graph": (PATHS | {"graph": "g9"}, "/spec/graph", "no graph named g9"),
    "paths to no target": (
        PATHS | {"root": {"kind": "logit", "token": "john"}},
        "/spec/root/token",
        "one of 'and'",
    ),
    "paths to a difference from no target": (
        PATHS | {"root": {"kind": "logit", "token": " and", "minus": "john"}},
        "/spec/root/minus",
        "explains no 'john'",
    ),
    "paths to a layer without a coder": (
        PATHS | {"root": OF_FEATURE | {"layer": 2}},
        "/spec/root/layer",
        "layers 0, 1",
    ),
    "paths to no position": (PATHS | {"root": OF_FEATURE | {"position": 2}}, "/spec/root/position", "0 to 1"),
    "paths to a negative feature": (
        PATHS | {"root": OF_FEATURE | {"feature": -1}},
        "/spec/root/feature",
        "greater than or equal to 0",
    ),
    "paths to an unknown thing": (PATHS | {"root": {"kind": "head"}}, "/spec/root/kind", "'logit'"),
    "paths through too much": (PATHS | {"through": [{}] * 7}, "/spec/through", "at most 6"),
    "paths through no number": (
        PATHS | {"through": [{"layers": [2**40]}]},
        "/spec/through/0/layers/0",
        "less than 2147483648",
    ),
    "paths of no length": (PATHS | {"max_length": 0}, "/spec/max_length", "greater than or equal to 1"),
    "path with a NUL": (IMPORT | {"path": "{root}/a\0b"}, "/spec/path", "NUL"),
    "path with a newline": (IMPORT | {"path": "{root}/a\nb"}, "/spec/path", "printed"),
    "path of a long name": (IMPORT | {"path": "{root}/" + "x" * 300}, "/spec/path", ""),
    "a target of several tokens": (
        ATTRIBUTE | {"targets": ["mary", "went home"]},
        "/spec/targets/1",
        "['went', 'home']",
    ),
    "a target that is no token": (ATTRIBUTE | {"targets": ["paris"]}, "/spec/targets/0", "<unk>"),
    "a difference to several tokens": (ATTRIBUTE | {"targets": ["mary"], "minus": "and john"}, "/spec/minus", "'john'"),
    "a difference of nothing": (ATTRIBUTE | {"minus": "john"}, "/spec", "there are none"),
    "no target": (ATTRIBUTE | {"targets": []}, "/spec/targets", "at least 1"),
    "layers that must have a coder": (ATTRIBUTE | {"layers_without_coder": "refused"}, "/spec/coders", "[2, 3]"),
    "an unknown rule for position 0": (ATTRIBUTE | {"position_0": "token"}, "/spec/position_0", "'left-out'"),
    "prompt with a NUL": (ATTRIBUTE | {"prompt": "mary\0john"}, "/spec/prompt", "NUL"),
}


@pytest.fixture
def furnished(api: TestClient, world: World, alice: Tenant, tmp_path: Path) -> TestClient:
    model, dataset = world.model(alice), world.dataset(alice)
    world.dataset(alice, "foreign", tokenizer_digest="b" * 64)
    world.dataset(alice, "long", context=MAX_CONTEXT + 1)
    world.dataset(alice, "wide", context=64)
    world.dataset(alice, "bossy", bos="bos")
    world.dataset(alice, "seen", heldout_tokens=0)
    world.coders(alice, model, dataset)
    world.coders(alice, model, dataset, "sae", kind="sae", hook_in="mlp.out")
    world.graph(alice, model)
    mixed = world.coders(alice, model, dataset, "mixed")
    with world.sessions.begin() as session:
        elsewhere = update(Coder).where(Coder.id == mixed[1].id).values(model_id=world.model(alice, "m-other").id)
        session.execute(elsewhere)
    world.coders(alice, model, dataset, "crossing", layers=(0,), kind="cross-layer-transcoder", later_layers=[1])
    root = tmp_path / "imports"
    (root / "link").symlink_to(tmp_path)
    (root / "notes.txt").write_text("no model")
    return api


def jobs(world: World) -> int:
    with world.sessions() as session:
        return session.scalars(select(func.count()).select_from(Job)).one()


def test_every_bad_spec_is_refused_with_what_and_where(furnished: TestClient, world: World, tmp_path: Path) -> None:
    """One test for all, since the servers are what takes the time."""
    before = jobs(world)
    told = {}
    for name, (spec, _, say) in BAD.items():
        text = json.dumps({"spec": spec}).replace("{root}", str(tmp_path / "imports"))
        answer = furnished.post(JOBS, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = Problem.model_validate(answer.json())
        assert (problem.type, problem.status) == ("urn:clew:invalid-spec", 422)
        assert problem.request_id == answer.headers["x-request-id"]
        words = f"{problem.detail}; expected {problem.expected}; {problem.hint}"
        told[name] = (problem.where, say if say in words else words)
    expected = {name: (where, say) for name, (_, where, say) in BAD.items()}
    assert told == expected
    assert jobs(world) == before


def test_all_errors_are_listed_and_the_first_stands_on_top(api: TestClient) -> None:
    spec = {"kind": "train", "name": "t", "model": "m", "dataset": "d", "layers": [], "steps": 0, "extra": 1}
    problem = Problem.model_validate(api.post(JOBS, json={"spec": spec, "priority": "urgent"}).json())
    assert problem.errors is not None
    assert [error.where for error in problem.errors] == ["/spec/layers", "/spec/steps", "/spec/extra", "/priority"]
    assert (problem.where, problem.detail) == (problem.errors[0].where, problem.errors[0].detail)


def test_a_body_that_is_no_plain_json_is_refused(api: TestClient) -> None:
    bodies = [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'\xef\xbb\xbf{"spec": {}}', "not JSON"),
        (b'{"spec": NaN}', "NaN is not a JSON number"),
        (b'{"spec": 1e999}', "too large"),
        (b'{"spec": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"spec": {}, "spec": {}}', "'spec' is given twice"),
        (b'{"spec": "\\u0000"}', "NUL"),
        (b'{"spec": "\\ud800"}', "not Unicode"),
        (b'{"\\ud800": 1}', "not Unicode"),
        (b'{"spec": ' + b"[" * 40 + b"]" * 40 + b"}", "nested too deeply"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "an object"),
        (b"null", "an object"),
    ]
    for content, say in bodies:
        answer = api.post(JOBS, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert say in answer.text, content[:40]


def test_bodies_have_a_size_and_a_type(api: TestClient) -> None:
    large = b'{"spec": "' + b"x" * 2**20 + b'"}'
    answers = [
        api.post(JOBS, content=large, headers={"Content-Type": "application/json"}),
        api.post(JOBS, content=b"spec=1", headers={"Content-Type": "application/x-www-form-urlencoded"}),
        api.post(JOBS, content=b"{}"),
        api.put(JOBS, json={}),
        api.get("/api/v1/nothing", headers={"Accept": "text/html"}),
        api.get(f"{JOBS}/not-a-uuid"),
    ]
    assert [answer.status_code for answer in answers] == [413, 415, 415, 405, 404, 422]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    for answer in answers:
        assert Problem.model_validate(answer.json()).status == answer.status_code
    assert set(answers[3].headers["allow"].split(", ")) <= {"GET", "POST"}
    assert answers[5].json()["where"] == "/path/job_id"


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["train", "attribute", "evaluate", "import-model", "build-dataset", "m", "d", "set", "/etc"])
)
keys = st.text(max_size=8) | st.sampled_from(
    ["kind", "name", "model", "dataset", "layers", "steps", "coder", "coders", "prompt", "path", "bos", "k", "tokens"]
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6))
specs: list[dict[str, Any]] = [IMPORT, BUILD, TRAIN, EVALUATE, ATTRIBUTE]
mutations = st.sampled_from(specs).flatmap(
    lambda spec: st.dictionaries(st.sampled_from(sorted(spec)) | keys, trees, max_size=3).map(
        lambda other: spec | other
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=trees | st.fixed_dictionaries({"spec": mutations | trees}) | st.dictionaries(keys, trees))
def test_no_json_whatever_breaks_the_api(furnished: TestClient, body: Any) -> None:
    """A good answer or a problem that points into what was sent; never a 5xx, never another shape."""
    answer = furnished.post(JOBS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 422:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = Problem.model_validate(answer.json())
        for one in [problem, *(problem.errors or [])]:
            assert one.where is not None
            assert resolves(one.where, body), (one.where, body)


def resolves(where: str, body: Any) -> bool:
    """Whether all but the last part of the pointer leads somewhere in the body."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in where.split("/")[1:]]
    for part in parts[:-1]:
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            body = body[int(part)]
        else:
            return False
    return True

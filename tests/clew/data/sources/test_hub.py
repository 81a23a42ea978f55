"""A hub's dataset is streamed at one commit, as data; where the hub says no, or nothing, the error says so."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from tests.clew.data.sources.fake_hub import COMMIT, Hub, serving

from clew.data.sources import open_source
from clew_spec.datasets import BuildDatasetSpec, HubSource
from clew_spec.errors import DataError

pytestmark = pytest.mark.science

READER = """
import json, sys
from clew.data.sources import open_source
from clew_spec.datasets import HubSource
from clew_spec.errors import ClewError
for line in sys.stdin:
    try:
        source = open_source(HubSource(**json.loads(line)), ())
        texts = [document.text for document in source.documents(seed=3)]
        print(json.dumps({"texts": texts, "facts": source.facts()}))
    except ClewError as error:
        print(error.problem().model_dump_json())
"""
Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


@pytest.fixture
def read(hub: Hub, tmp_path: Path) -> Read:
    """Reads sources in a process of its own: the library looks for the hub's address when it is imported."""

    def read(*sources: HubSource) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-c", READER],
            input="\n".join(source.model_dump_json() for source in sources),
            env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return read


def parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


NOTES = [f"Note {number}." for number in range(40)]


def test_a_split_is_streamed_at_one_commit_in_order_or_shuffled(hub: Hub, read: Read, tmp_path: Path) -> None:
    hub.repos["lab/notes"] = {
        "data/train-00000-of-00002.parquet": parquet(body=NOTES[:20], id=[*range(20)]),
        "data/train-00001-of-00002.parquet": parquet(body=[*NOTES[20:], None, " "], id=[*range(22)]),
        "data/test-00000-of-00001.parquet": parquet(body=["A test."], id=[0]),
    }
    (tmp_path / "lab" / "notes").mkdir(parents=True)
    (tmp_path / "lab" / "notes" / "train.jsonl").write_text('{"body": "a folder of the same name"}')
    source = HubSource(repo="lab/notes", field="body", shuffle_buffer=0)
    shuffled = source.model_copy(update={"shuffle_buffer": 100})
    found = read(source, shuffled, shuffled, source.model_copy(update={"split": "test", "revision": "main"}))
    assert [one.get("detail") for one in found] == [None] * 4
    in_order, drawn, again, test = found
    assert in_order["texts"] == NOTES
    assert in_order["facts"]["commit"] == COMMIT
    assert drawn == again
    assert sorted(drawn["texts"]) == sorted(NOTES) != drawn["texts"] != NOTES
    assert test["texts"] == ["A test."]
    contents = [path for path in hub.asked if "/resolve/" in path and path.endswith(".parquet")]
    assert contents
    assert all(COMMIT in path for path in contents)


def test_what_the_hub_does_not_give_is_told_apart(hub: Hub, read: Read, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"text": "secret"}\n')
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {tmp_path}/secret.jsonl\n---\n"
    hub.repos["lab/notes"] = {"train.jsonl": b'{"body": "a", "id": 1}\n{"body": "b", "id": 2}\n'}
    hub.repos["lab/gated"] = {"train.jsonl": b'{"text": "a"}\n'}
    hub.repos["lab/thief"] = {"README.md": card.encode()}
    hub.repos["lab/pictures"] = {"train/a.png": b"\x89PNG", "train/b.png": b"\x89PNG"}
    hub.gated = {"lab/gated"}
    hub.broken, hub.silent = {"lab/broken"}, {"lab/silent"}
    cases: list[tuple[dict[str, str], str, str]] = [
        ({"repo": "lab/private"}, "/spec/source/repo", "there is none, or it is private"),
        ({"repo": "lab/gated"}, "/spec/source/repo", "is gated"),
        ({"repo": "lab/broken"}, "/spec/source", "answers 503"),
        ({"repo": "lab/silent"}, "/spec/source", "the hub did not answer"),
        ({"repo": "lab/notes", "revision": "v2"}, "/spec/source/revision", "no revision v2"),
        ({"repo": "lab/notes", "split": "dev"}, "/spec/source", "train"),
        ({"repo": "lab/notes", "config": "french"}, "/spec/source", "default"),
        ({"repo": "lab/notes"}, "/spec/source/field", "one of its fields: body, id"),
        ({"repo": "lab/notes", "field": "id"}, "/spec/source/field", "holds no text but int"),
        ({"repo": "lab/thief"}, "/spec/source", "don't belong to lab/thief"),
        ({"repo": "lab/pictures"}, "/spec/source/repo", "imagefolder"),
    ]
    found = read(*(HubSource.model_validate(fields) for fields, _, _ in cases))
    told = [(one.get("type"), one.get("where"), f"{one.get('detail')}; {one.get('expected')}") for one in found]
    assert [
        (case, problem)
        for case, problem in zip(cases, told, strict=True)
        if problem[:2] != ("urn:clew:data-error", case[1]) or case[2] not in problem[2]
    ] == []


def test_no_hub_and_no_leave_to_ask_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HubSource(repo="lab/notes")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nothing listens
    with pytest.raises(DataError, match="the hub did not answer when lab/notes was read") as silent:
        open_source(source, ())
    assert silent.value.where == "/spec/source"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set.*CLEW_HF_OFFLINE=false"):
        open_source(source, ())


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "clew.data.sources.hub", raising=False)
    with pytest.raises(DataError, match="extra `hub`"):
        open_source(HubSource(repo="lab/notes"), ())


@pytest.mark.parametrize(
    "fields",
    [
        {"repo": "https://host/lab/notes"},
        {"repo": "hf://datasets/lab/notes"},
        {"repo": "notes"},
        {"repo": "../notes"},
        {"repo": "lab/.."},
        {"repo": "/lab/notes"},
        {"repo": "lab/notes/more"},
        {"repo": "lab/notes\n"},
        {"repo": "lab/notes@main"},
        {"repo": "lab/notes", "revision": "a/../../b"},
        {"repo": "lab/notes", "revision": "main?x=1"},
        {"repo": "lab/notes", "config": "../fr"},
        {"repo": "lab/notes", "split": "train[:10%]"},
    ],
    ids=str,
)
def test_names_that_are_no_names_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HubSource.model_validate(fields)


def test_a_hubs_dataset_is_not_read_without_a_limit() -> None:
    spec = {"kind": "build-dataset", "name": "d", "model": "m", "source": {"kind": "hf", "repo": "lab/notes"}}
    BuildDatasetSpec.model_validate(spec | {"max_tokens": 1000})
    with pytest.raises(ValidationError, match="needs max_tokens"):
        BuildDatasetSpec.model_validate(spec)

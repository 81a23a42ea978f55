"""A model of the hub, imported by a real runner over real HTTP: at one commit, by a token, and never from inside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.clew.data.sources.fake_hub import COMMIT, Hub, serving
from tests.thread.toy_lm import write_model

from clew_spec.datasets import BuildDatasetSpec, HubSource
from clew_spec.errors import InvalidSpec
from clew_spec.hub import of_path
from clew_spec.models import ImportModelSpec
from clew_spec.runner import EVENTS_FILE, RunJob

pytestmark = pytest.mark.lab


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


@pytest.fixture
def toy(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """`lab/toy`, with files that nobody needs beside it."""
    files = {path.name: path.read_bytes() for path in write_model(tmp_path / "toy").iterdir()}
    hub.repos["lab/toy"] = {
        **files,
        "pytorch_model.bin": b"\x80pickle",
        "modeling_toy.py": b"import os",
        "README.md": b"",
    }
    return files


def run(folder: Path, hub: Hub, *specs: Any, **environ: str) -> list[dict[str, Any]]:
    """The last event of each job, done one after another by one runner."""
    lines = []
    for number, spec in enumerate(specs):
        write_model(folder / str(number) / "inputs" / "model")  # where the tokenizer of a dataset lies
        record = {"model": {"id": "m", "digest": "0" * 64, "tokenizer_digest": "0" * 64}}
        records = record if isinstance(spec, BuildDatasetSpec) else {}
        job = RunJob(
            job_id="j",
            project_id="p",
            fence=1,
            spec=spec,
            records=records,
            scratch=str(folder / str(number)),
            cache=str(folder / "cache"),
            code_version="test",
        )
        lines.append(job.model_dump_json())
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    known |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "clew_worker.runner", "--max-jobs", str(len(specs))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=known | environ) as runner:
        assert runner.stdin is not None
        runner.stdin.write("\n".join(lines) + "\n")
        runner.stdin.flush()  # and stays open: its end would mean that nobody wants the work any more
        assert runner.wait(200) == 0
    events = [(folder / str(number) / EVENTS_FILE).read_text().splitlines() for number in range(len(specs))]
    return [json.loads(of_job[-1]) for of_job in events]


def model(path: str) -> ImportModelSpec:
    return ImportModelSpec(name="toy", path=path)


def test_a_model_is_fetched_at_one_commit_and_what_it_was_is_recorded(
    hub: Hub, toy: dict[str, bytes], tmp_path: Path
) -> None:
    (done,) = run(tmp_path, hub, model("hf:lab/toy@main"))
    assert done["type"] == "done", done
    source = done["result"]["lineage"]["source"]
    assert (source["repo"], source["commit"]) == ("lab/toy", COMMIT)
    assert source["files"] == {name: sha256(content).hexdigest() for name, content in toy.items()}
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == set(toy), "neither pickles nor code are asked for"
    assert all(f"/resolve/{COMMIT}/" in path for path in hub.asked if "/resolve/" in path)


def test_what_is_gated_needs_the_token_and_no_error_shows_it(hub: Hub, toy: dict[str, bytes], tmp_path: Path) -> None:
    hub.gated = {"lab/toy"}
    for folder in ("none", "wrong", "right"):
        (tmp_path / folder).mkdir()
    (refused,) = run(tmp_path / "none", hub, model("hf:lab/toy"))
    assert refused["problem"]["type"] == "urn:clew:model-error"
    assert "is gated" in refused["problem"]["detail"]
    assert "clew secret set HF_TOKEN" in refused["problem"]["hint"]
    (refused,) = run(tmp_path / "wrong", hub, model("hf:lab/toy"), HF_TOKEN="hf_wrong-token")
    assert "is gated" in refused["problem"]["detail"]
    (done,) = run(tmp_path / "right", hub, model("hf:lab/toy"), HF_TOKEN=hub.token)
    assert done["type"] == "done", done
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if hub.token.encode() in path.read_bytes()]


def test_an_answer_that_leads_inside_is_not_followed(hub: Hub, toy: dict[str, bytes], tmp_path: Path) -> None:
    """To another server of this machine, of its network, or of its cloud; by name or by number; also of a dataset."""
    notes = BuildDatasetSpec(name="d", model="m", source=HubSource(repo="lab/notes"), max_tokens=1000)
    with serving() as inside:
        inside.repos["lab/toy"] = toy
        address = inside.url.removeprefix("http://")
        urls = [
            f"http://{address}/lab/toy/resolve/main/model.safetensors",
            f"https://{address.replace('127.0.0.1', 'localhost')}/x",
            "http://169.254.169.254/latest/meta-data/",
            "https://[::1]/x",
            "https://10.1.2.3/x",
        ]
        hub.repos |= {f"lab/toy-{number}": toy for number in range(len(urls))}
        hub.elsewhere = {f"lab/toy-{number}/config.json": url for number, url in enumerate(urls)}
        hub.repos["lab/notes"] = {"train.jsonl": b'{"text": "a"}\n'}
        hub.elsewhere["lab/notes/train.jsonl"] = urls[0]
        for refused in run(tmp_path, hub, *(model(f"hf:lab/toy-{number}") for number in range(len(urls))), notes):
            assert refused["type"] == "failed"
            assert "the hub leads to" in refused["problem"]["detail"], refused
        assert inside.asked == []


@pytest.mark.parametrize(
    "path",
    [
        *(
            "hf:",
            "hf:toy",
            "hf:lab/toy/more",
            "hf:../toy",
            "hf:lab/..",
            "hf:/lab/toy",
            "hf:lab/toy@",
            "hf:lab/toy@a/../b",
        ),
        *("hf:http://127.0.0.1/toy", "hf:169.254.169.254/latest/meta-data", "hf:lab/toy@main?x=1", "hf:lab/toy\n"),
    ],
)
def test_no_address_can_be_named(path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        of_path(path)
    assert refused.value.where == "/spec/path"

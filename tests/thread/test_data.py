"""Files from a user's disk into the running lab, as docs/data.md says it; what is not what was announced is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clew_client import Lab
from clew_spec.data_views import UploadDetail
from clew_spec.datasets import BuildDatasetSpec, JsonlSource, ParquetSource, TextSource
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from clew_spec.uploads import MIN_PART
from tests.support.parquet import saying
from tests.thread.conftest import RunningLab
from tests.thread.toy_lm import write_model

pytestmark = pytest.mark.lab

DOCS = Path(__file__).parents[2] / "docs/data.md"


def block(language: str) -> str:
    """The first of its kind in the document."""
    return DOCS.read_text().split(f"```{language}\n")[1].split("```")[0]


def documents(count: int, start: int = 0) -> list[str]:
    """Of some hundred bytes, each of its own words."""
    return [
        " ".join(f"{word}{number}" for word in ("read", "keep", "mend", "send") for _ in range(9))
        for number in range(start, start + count)
    ]


@pytest.fixture
def desk(thread: RunningLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the document speaks of, where a user works."""
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(200)))
    for number in range(20):
        (tmp_path / "texts" / "deep" / f"{number}.txt").write_text("\n".join(documents(5, 1000 + 10 * number)))
    (tmp_path / "texts" / ".hidden").write_text("no")
    write_model(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEW_CONFIG", thread.environ["CLEW_CONFIG"])
    for name in ("CLEW_URL", "CLEW_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_document_does_what_it_says(thread: RunningLab, desk: Path) -> None:
    clew = f'clew() {{ "{sys.executable}" -m clew_client "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", clew + block("sh")], cwd=desk, env=thread.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "upload:notes" in done.stdout
    lab = thread.client
    (model,), (notes,), (corpus,) = lab.models(name="toy"), lab.datasets(name="notes"), lab.datasets(name="corpus")
    assert model.lineage.source is not None
    assert model.lineage.source["upload"] == "toy-files"
    assert set(model.lineage.source["files"]) == {path.name for path in (desk / "toy").iterdir()}
    assert notes.source["path"] == "upload:notes"
    assert notes.n_documents == 200
    assert corpus.source["files"] == 20
    assert [upload.name for upload in lab.uploads.list()] == ["toy-files", "notes"]

    said: dict[str, Any] = {}
    exec(compile(block("python"), "docs/data.md", "exec"), said)  # noqa: S102
    assert said["upload"].id == next(iter(lab.uploads.list(name="notes"))).id, "nothing is sent twice"
    assert {path.name for path in said["files"]} >= {"dataset.json"}
    (again,) = lab.datasets(name="again")
    assert again.source["text_sha256"] == notes.source["text_sha256"]
    said["lab"].close()


def test_an_upload_that_was_cut_off_goes_on(thread: RunningLab, desk: Path) -> None:
    """The process that sends is ended in the middle of the second part; the next one sends the rest alone."""
    (desk / "large.txt").write_bytes(os.urandom(3 * MIN_PART + 5))
    killed = """
import os, sys
from clew_client import Lab
def tell(phase, done, total, sent):
    if phase == "send" and done > 20 * 2**20:
        os._exit(9)
with Lab() as lab:
    lab.uploads.send(__import__("pathlib").Path("large.txt"), None, tell)
"""
    done = subprocess.run([sys.executable, "-c", killed], cwd=desk, env=thread.environ, check=False)
    assert done.returncode == 9
    lab = thread.client
    (half,) = lab.uploads.list(name="large")
    assert half.state == "open"
    sent: list[int] = []
    whole = lab.uploads.send(desk / "large.txt", None, lambda *told: sent.append(told[3]))
    assert (whole.id, whole.state) == (half.id, "complete")
    assert 0 < max(sent) <= 2 * MIN_PART + 5


def test_what_is_not_what_was_announced_is_never_used(thread: RunningLab, desk: Path) -> None:
    """Same size, another content: the job that reads it tells, and makes nothing of it. No worker has the true one."""
    lab = thread.client
    (desk / "notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(200, 5000)))
    model = lab.submit(ImportModelSpec(name="honest", path=lab.upload(desk / "toy", "honest").ref))
    forged = _forged(lab, desk / "notes.jsonl")
    model.wait(check=True)
    for source in (JsonlSource(path=forged.ref), JsonlSource(path="upload:forged/notes.jsonl")):
        job = lab.submit(BuildDatasetSpec(name="forged", model="honest", source=source, context=64)).wait()
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.detail == "notes.jsonl is not what was announced when it was uploaded"
        assert job.error.expected is not None
        assert "sha256" in job.error.expected
    assert list(lab.datasets(name="forged")) == []


def _forged(lab: Lab, path: Path) -> UploadDetail:
    """The true file is announced, and another of its size is sent."""
    content = path.read_bytes()
    announced = lab._transport.request("POST", "uploads", content=_announcement(path), idempotent=True).json()
    for part in lab._transport.request("POST", f"uploads/{announced['id']}/parts").json()["items"]:
        lab._objects.put(part["url"], content=content[::-1]).raise_for_status()
    return lab.uploads._complete(announced["id"])


def _announcement(path: Path) -> str:
    from clew_client.uploads import _request, find_files

    return _request("forged", find_files(path), lambda *_: None).model_dump_json()


def test_a_compressed_bomb_is_told_and_fills_no_memory(thread: RunningLab, desk: Path) -> None:
    import gzip

    with gzip.open(desk / "bomb.txt.gz", "wb", compresslevel=9) as file:
        for _ in range(100):
            file.write((b" " * 2**15 + b"\n") * 2**5)
    assert (desk / "bomb.txt.gz").stat().st_size < 2**20
    lab = thread.client
    lab.submit(ImportModelSpec(name="toy3", path=lab.upload(desk / "toy", "toy3").ref)).wait(check=True)
    ref = lab.upload(desk / "bomb.txt.gz").ref
    job = lab.submit(BuildDatasetSpec(name="bomb", model="toy3", source=TextSource(path=ref), context=64)).wait()
    assert job.error is not None
    assert "unfolds" in job.error.detail


@pytest.fixture(scope="module")
def model(thread: RunningLab) -> str:
    """The name of one that reads bytes."""
    name = "reads-bytes"
    thread.client.submit(ImportModelSpec(name=name, path=str(thread.imports / "toy"))).wait(check=True)
    return name


def write_papers(path: Path, *, page: int = 0) -> Path:
    """A table with a column of 200 texts, and pages of so many bytes beside them."""
    texts = documents(200, 9000)
    columns = {"id": [*range(len(texts))], "body": texts, "page": [os.urandom(page) for _ in texts]}
    pq.write_table(pa.table(columns), path, compression="none", row_group_size=64)
    path.with_suffix(".jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    return path


def test_a_parquet_file_makes_the_dataset_that_its_texts_make(thread: RunningLab, desk: Path, model: str) -> None:
    """It comes in several parts, and only one column of it is text."""
    lab = thread.client
    papers = write_papers(desk / "papers.parquet", page=2**17)
    columns, lines = lab.upload(papers), lab.upload(papers.with_suffix(".jsonl"), "lines")
    assert columns.size > MIN_PART
    for name, source in (
        ("columns", ParquetSource(path=columns.ref, field="body")),
        ("lines", JsonlSource(path=lines.ref, field="body")),
    ):
        lab.submit(BuildDatasetSpec(name=name, model=model, source=source, context=64)).wait(check=True)
    (one,), (other,) = lab.datasets(name="columns"), lab.datasets(name="lines")
    assert one.n_documents == 200
    assert one.digest == other.digest
    assert one.train_tokens == other.train_tokens > 0
    assert one.heldout_tokens == other.heldout_tokens > 0


def test_a_parquet_file_that_is_not_what_it_should_be_is_refused_with_why(
    thread: RunningLab, desk: Path, model: str
) -> None:
    lab = thread.client
    papers = write_papers(desk / "papers.parquet")
    content = papers.read_bytes()
    for name, wrong, field, where, why in (
        ("whole", content, "text", "field", "papers.parquet has no field `text`"),
        ("cut", content[: len(content) // 2], "body", "path", "papers.parquet is damaged, or not parquet"),
        ("lie", saying(content, 2**40), "body", "path", f"papers.parquet says that it has {2**40} rows, and has 200"),
    ):
        papers.write_bytes(wrong)
        source = ParquetSource(path=lab.upload(papers, name).ref, field=field)
        job = lab.submit(BuildDatasetSpec(name=name, model=model, source=source, context=64)).wait()
        assert (job.state, len(job.attempts)) == (JobState.FAILED, 1)
        assert job.error is not None
        assert (job.error.type, job.error.where) == ("urn:clew:data-error", f"/spec/source/{where}")
        assert job.error.detail.startswith(why)
        assert list(lab.datasets(name=name)) == []

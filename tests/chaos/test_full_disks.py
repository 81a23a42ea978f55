"""A disk fills up under a job, the worker's or the object store's: it ends with that, and nothing is half there."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import small_disk
from tests.support.fleet import Fleet
from tests.support.servers import Lab, settings_from

from clew.files import file_sha256
from clew_lab.catalogue.tables import Attempt
from clew_lab.storage import Store
from clew_local.servers import Stack, seaweed
from clew_spec.errors import Unavailable
from clew_spec.jobs import JobState

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("small_disks")]

S, F = JobState.SUCCEEDED, JobState.FAILED
SMALL = 8 * 2**20


def test_a_job_that_fills_the_worker_s_disk_fails_with_that_and_the_next_has_room(fleet: Fleet) -> None:
    folder = fleet.lab.settings.data_dir
    folder.mkdir()
    fleet.start(
        "tests.support.small_disk", str(folder), str(SMALL),
        sys.executable, "-m", "clew_worker.supervisor", "--pool", "train", "--name", "w",
    )  # fmt: skip
    fleet.scheduler()
    filling = fleet.submit("steps_9", "every_2", "fill_at_4", max_retries=1)
    job = fleet.settle(filling)
    assert (job.state, job.failure_count, job.lost_count) == (F, 2, 0)
    assert job.error is not None
    assert job.error["type"] == "urn:clew:storage-full"
    assert "the worker w" in job.error["detail"]
    assert (job.checkpoint or {}).get("step") == 2
    assert len(fleet.rows(Attempt, Attempt.job_id == filling)) == 2
    assert fleet.settle(fleet.submit()).state == S


@pytest.fixture
def small_store(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab with an object store of its own, on a small disk."""
    weed = tmp_path / "weed"
    weed.write_text(
        f'#!/bin/sh\nexec {sys.executable} {small_disk.__file__} data {8 * SMALL} {seaweed.binary()} "$@"\n'
    )
    weed.chmod(0o755)
    monkeypatch.setattr(seaweed, "binary", lambda: weed)
    others = {name: lab.environ[name] for name in ("CLEW_DATABASE_URL", "CLEW_REDIS_URL")}
    stack = Stack(tmp_path / "store", environ=others, durable=False)
    stack.start()
    environ = lab.environ | stack.endpoints().environment()
    yield Lab(environ, settings_from(environ))
    stack.destroy()


def fill(store: Store, scratch: Path) -> None:
    """Until not even a small file has room."""
    ballast = scratch / "ballast"
    for size in (2**20, 2**14, 2**8):
        for _ in range(200):
            ballast.write_bytes(os.urandom(size))
            digest = file_sha256(ballast)
            try:
                store.put(f"ballast/{digest}", ballast, digest)
            except Unavailable:
                break
        else:
            raise AssertionError(f"200 files of {size} bytes had room")


def test_a_full_object_store_fails_the_job_with_that_and_publishes_nothing(
    fleet: Fleet, small_store: Lab, tmp_path: Path
) -> None:
    store = Store.of(small_store.settings)
    fill(store, tmp_path)
    fleet.scheduler()
    more = {"CLEW_UPLOAD_PATIENCE_S": "1", "CLEW_MAX_LOST": "1"}
    its_store = {name: value for name, value in small_store.environ.items() if "_S3_" in name}
    fleet.worker("w1", "train", **its_store, **more)
    job = fleet.settle(fleet.submit())
    assert (job.state, job.failure_count, job.lost_count) == (F, 0, 2)
    assert job.error is not None
    assert job.error["type"] == "urn:clew:unavailable"
    assert "object store" in job.error["detail"]
    assert list(store.keys(f"projects/{job.project_id}/jobs/{job.id}/")) == []

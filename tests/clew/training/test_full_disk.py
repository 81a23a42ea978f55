"""A disk that fills up while a run writes: a clear error, and every checkpoint before it as good as ever."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clew.training.test_trainer import run

from clew.coders import load_coder
from clew.data import Dataset
from clew.models import Model
from clew_spec.errors import Problem

pytestmark = pytest.mark.science

ROOT = Path(__file__).parents[3]
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_what_was_whole_stays_and_the_run_goes_on_from_it(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    disk, kept, undisturbed = tmp_path / "disk", tmp_path / "kept", tmp_path / "undisturbed"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, *mount], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk of their own")
    trained = run(model, dataset, undisturbed, checkpoint_every=1)
    (first, *_) = sorted((undisturbed / "checkpoints").iterdir())

    fill = (
        f'{" ".join(mount)} -o size={3.5 * size_of(first):.0f} && exec "$0" -m tests.clew.training.on_a_small_disk "$@"'
    )
    told = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", fill, sys.executable, str(disk), str(kept)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    problem = Problem.model_validate(json.loads(told.stdout.splitlines()[-1]))
    assert problem.type == "urn:clew:storage-full"
    assert "no room to write 0000" in (problem.detail or "")

    checkpoints = sorted(path.name for path in (kept / "checkpoints").iterdir())
    assert checkpoints == [f"{step + 1:08d}" for step in range(len(checkpoints))], (
        "whole ones, and nothing half-written"
    )
    assert checkpoints
    again = run(model, dataset, tmp_path / "again", checkpoint_every=1, resume=kept / "checkpoints" / checkpoints[-1])
    assert [each.digest for each in again] == [each.digest for each in trained]
    assert load_coder(tmp_path / "again" / "coders" / "L00").config == trained[0].config

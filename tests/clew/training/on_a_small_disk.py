"""A run whose checkpoints fill the disk below them: `python -m tests.clew.training.on_a_small_disk DISK KEPT`.

Tells of the error as JSON, and copies what is on the disk to KEPT.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

import torch
from tests.clew.toys import toy_model
from tests.clew.training.conftest import make_dataset
from tests.clew.training.test_trainer import run

from clew_spec.errors import ClewError


def main(disk: Path, kept: Path) -> None:
    torch.set_num_threads(1)
    dataset = make_dataset(Path(mkdtemp()), train=10, heldout=5)
    try:
        run(toy_model(), dataset, disk, checkpoint_every=1)
    except ClewError as error:
        print(error.problem().model_dump_json())
    else:
        print(json.dumps(None))
    shutil.copytree(disk, kept)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

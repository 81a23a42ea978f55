"""Whether there is room on the worker's disk: where it is full, not even a runner's last word can be written."""

import shutil
from pathlib import Path

from clew_spec.errors import Problem, StorageFull

FULL_BYTES = 2**20


def no_room(folder: Path) -> Problem | None:
    """What to say where next to nothing can be written to the worker's folder any more."""
    if shutil.disk_usage(folder).free >= FULL_BYTES:
        return None
    error = StorageFull(
        f"there was no room left on the disk of the worker {folder.name}",
        hint="make room there; of this attempt nothing was kept but its checkpoints",
    )
    return error.problem()

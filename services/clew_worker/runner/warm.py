"""What a runner keeps in memory between jobs: models and coders, as far as a budget goes.

Each is named by project and digest, so that no job ever sees what another project loaded.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from clew.coders import Coder, load_coder
from clew.models import Model, load_model
from clew_spec.base import Spec
from clew_worker.runner.work import Record, Work

T = TypeVar("T")

Name = tuple[str, str, str, str, torch.dtype]
"""What it is, project, digest, device, dtype."""


class Shelf:
    """Things by name, with the bytes of their files. What was used longest ago goes first; all of a job's own stay."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Name, tuple[Any, int]] = OrderedDict()

    def make_room(self, needed: dict[Name, int], budget: int) -> None:
        """Let go until what is kept and what a job needs fit the budget together, or only the job's own are left."""
        for name in [name for name in self._kept if name not in needed]:
            others = sum(size for kept, (_, size) in self._kept.items() if kept not in needed)
            if others + sum(needed.values()) <= budget:
                break
            del self._kept[name]

    def take(self, name: Name, size: int, load: Callable[[], T]) -> T:
        if name not in self._kept:
            self._kept[name] = load(), size
        self._kept.move_to_end(name)
        return cast(T, self._kept[name][0])

    def __contains__(self, name: Name) -> bool:
        return name in self._kept


_shelf = Shelf()


def warm_model(work: Work[Spec]) -> Model:
    """The job's model, loaded from its inputs unless it is still in memory."""

    def load() -> Model:
        work.report.progress("load model", 0, 1, "model")
        return load_model(work.inputs / "model", device=work.job.device, dtype=work.dtype)

    return _taken(work, _name(work, "model", work.model_record), load)


def warm_coder(work: Work[Spec], record: Record) -> Coder:
    """One of the job's coders, on its device and in its dtype."""
    return _taken(
        work,
        _name(work, "coder", record),
        lambda: load_coder(coder_folder(work, record)).to(work.job.device, work.dtype),
    )


def _taken(work: Work[Spec], name: Name, load: Callable[[], T]) -> T:
    needed = _needed(work)
    _shelf.make_room(needed, work.job.keep_bytes)
    return _shelf.take(name, needed[name], load)


def coder_folder(work: Work[Spec], record: Record) -> Path:
    """`coders/L03`, or `coders/L03.k16` of one among several."""
    return Path(work.inputs, record["files"][0]).parent


def _name(work: Work[Spec], what: str, record: Record) -> Name:
    return what, work.job.project_id, record["digest"], work.job.device, work.dtype


def _needed(work: Work[Spec]) -> dict[Name, int]:
    """All that the job reads of models and coders, with the bytes of their files."""
    sizes = {item.name: item.size for item in work.job.inputs}
    needed = {}
    if "model" in work.job.records:
        files = [size for file, size in sizes.items() if file.startswith("model/")]
        needed[_name(work, "model", work.model_record)] = sum(files)
    if "coders" in work.job.records:
        for record in work.coder_records:
            needed[_name(work, "coder", record)] = sum(sizes.get(file, 0) for file in record["files"])
    return needed

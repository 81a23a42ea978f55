"""Our side: a training run through the public `train`, a step at a time. Run as a child, see `benchmarks.line`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.line import Line
from clew.data import Dataset
from clew.models import load_model
from clew.reporting import Silent
from clew.training import train
from clew_spec.results import Lineage
from clew_spec.training import TrainSpec


class Steps(Silent):
    """A report that waits, after each step, until the next one is asked for."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        del done, total, unit
        if phase == "training":
            self._line.stepped()


def main() -> None:
    line = Line()
    asked: Mapping[str, Any] = line.setup()
    model = load_model(Path(asked["model"]), tokenizer=False)
    dataset = Dataset.open(Path(asked["dataset"]))
    line.ready()
    (*_, first) = train(
        model,
        dataset,
        TrainSpec.model_validate(asked["spec"]),
        model_digest=asked["model_digest"],
        tokenizer_digest=asked["tokenizer_digest"],
        lineage=Lineage(code_version="benchmark"),
        out=Path(asked["out"]),
        report=Steps(line),
    )
    line.finish({"coder": str(Path(asked["out"], *Path(first.files[0]).parts[:-1]))})


if __name__ == "__main__":
    main()

"""The measures of the queue at sizes at which their numbers mean nothing: what they set up still works."""

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.bench import Bench, Watch
from benchmarks.queue import MEASURES
from benchmarks.rows import Row
from rich.console import Console

pytestmark = pytest.mark.lab

MINUTES = ("chaos",)
"""Measures that take that long at any size."""


@pytest.mark.parametrize(
    ("name", "measure"),
    [pytest.param(*each, marks=[pytest.mark.long] if each[0] in MINUTES else []) for each in MEASURES.items()],
    ids=MEASURES,
)
def test_it_can_be_measured(name: str, measure: Callable[[Bench], Row], tmp_path: Path) -> None:
    bench = Bench(tmp_path, Watch(Console(quiet=True)), tiny=True)
    with bench.watch.over(name):
        row = measure(bench)
    assert row.name == f"queue/{name}"
    assert row.void is None
    assert row.ours > 0 or name == "chaos"

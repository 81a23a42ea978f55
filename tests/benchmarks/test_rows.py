"""A row says ok exactly where its numbers hold, and a file of rows keeps what a run did not measure."""

from pathlib import Path
from statistics import median
from typing import Any

import pytest
from benchmarks.rows import Compare, Op, Row, merge, notes, read_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

pytestmark = pytest.mark.science

numbers = st.floats(min_value=0.01, max_value=1e6)
repetitions = st.lists(numbers, min_size=1, max_size=9)
names = st.sampled_from([f"{group}/{measure}" for group in ("training", "queue") for measure in "abc"])


def row(name: str, ours: float = 1.0, **options: Any) -> Row:
    usual: dict[str, Any] = {"op": "<=", "target": 2.0, "unit": "s", "compare": "ours"}
    return Row.of(name, ours, **(usual | options))


@given(
    repetitions,
    repetitions,
    numbers,
    st.sampled_from([">=", "<="]),
    st.sampled_from(["ratio", "difference", "ours"]),
    st.none() | st.just("too little was learnt"),
)
def test_what_is_held_against_the_target(
    ours: list[float], peer: list[float], target: float, op: Op, compare: Compare, void: str | None
) -> None:
    of_ours, of_peer = median(ours), median(peer)
    held = {"ratio": of_ours / of_peer, "difference": of_ours - of_peer, "ours": of_ours}[compare]
    found = Row.of("g/m", ours, peer, op=op, target=target, unit="s", compare=compare, void=void)
    assert found.ratio == (None if compare == "ours" else held)
    assert found.ok == (void is None and (held >= target if op == ">=" else held <= target))
    assert (found.ours, found.peer, found.n) == (of_ours, of_peer, min(len(ours), len(peer)))
    assert all(low == min(of) and high == max(of) for (low, high), of in _spreads(found, ours=ours, peer=peer))


def _spreads(found: Row, **sides: list[float]) -> list[tuple[tuple[float, float], list[float]]]:
    return [(found.spread[side], sides[side]) for side in found.spread]


def test_a_void_row_says_why_and_is_not_ok_however_good_its_numbers() -> None:
    found = row("training/quality", 0.1, void="an FVU is not below 0.9")
    assert not found.ok
    assert notes([found]) == ["training/quality: void, an FVU is not below 0.9"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_makes_no_row(number: float) -> None:
    with pytest.raises(ValidationError):
        row("training/a", number)


@given(st.sets(names), st.sets(names), st.sets(names))
def test_a_run_replaces_what_it_measured_and_keeps_the_rest(kept: set[str], found: set[str], dropped: set[str]) -> None:
    merged = merge([row(name, 1) for name in kept], [row(name, 2) for name in found], dropped=dropped)
    expected = dict.fromkeys(kept - dropped, 1.0) | dict.fromkeys(found, 2.0)
    assert [(each.name, each.ours) for each in merged] == sorted(expected.items())


def test_rows_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert read_rows(path) == []
    rows = [row("a/b", note="said beside it"), Row.of("a/c", [1, 2, 4], [3, 3.5], op=">=", target=1, unit="s")]
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert list(tmp_path.iterdir()) == [path]

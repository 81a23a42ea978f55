"""A run keeps what it found, goes on after a failure, and says by its exit code whether all targets were met."""

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.bench import Bench
from benchmarks.rows import Row, read_rows, write_rows

from benchmarks import __main__ as command

pytestmark = pytest.mark.science


def measure(name: str, seconds: float) -> Callable[[Bench], Row]:
    return lambda _: Row.of(name, seconds, op="<=", target=2, unit="s", compare="ours")


def failing(_: Bench) -> Row:
    raise OSError("no room")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    group = {"fast": measure("g/fast", 1), "slow": measure("g/slow", 3), "failing": failing}
    monkeypatch.setattr(command, "GROUPS", {"g": group})
    monkeypatch.setattr(command, "RESULTS", path)
    write_rows(path, [measure(f"{name}", 9)(None) for name in ("g/failing", "g/fast", "g/renamed", "other/row")])  # type: ignore[arg-type]
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return int(ended.value.code or 0)


def seconds(results: Path) -> dict[str, float]:
    return {row.name: row.ours for row in read_rows(results)}


def test_a_group_takes_the_place_of_its_rows(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "g") == 1
    assert seconds(results) == {"g/fast": 1, "g/slow": 3, "other/row": 9}


@pytest.mark.parametrize(("row", "code", "found"), [("fast", 0, {"g/fast": 1.0}), ("slow", 1, {"g/slow": 3.0})])
def test_some_rows_leave_the_others(
    results: Path, monkeypatch: pytest.MonkeyPatch, row: str, code: int, found: dict[str, float]
) -> None:
    before = seconds(results)
    assert run(monkeypatch, "g", "--rows", row) == code
    assert seconds(results) == before | found


def test_what_failed_is_said_and_no_longer_kept(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = seconds(results)
    assert run(monkeypatch, "g", "--rows", "failing,fast") == 1
    assert "no room" in capsys.readouterr().out
    assert seconds(results) == {name: ours for name, ours in before.items() if name != "g/failing"} | {"g/fast": 1.0}


@pytest.mark.parametrize("option", [["--tiny"], ["--steps", "1"]])
def test_numbers_that_mean_nothing_are_not_kept(
    results: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    before = seconds(results)
    run(monkeypatch, *option)
    assert seconds(results) == before


@pytest.mark.parametrize("arguments", [["nothing"], ["g", "--rows", "fast,nothing"]])
def test_an_unknown_name_is_refused(results: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    assert run(monkeypatch, *arguments) == 2

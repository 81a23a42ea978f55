"""Docstrings are read, never run; each stands in the corpus once."""

import importlib.machinery
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from clew.data.sources.pydoc import Docstrings, Pydoc, find_package
from clew_spec.datasets import PydocSource
from clew_spec.errors import DataError

pytestmark = pytest.mark.science

MODULE = '''"""What a.b is for."""
raise SystemExit("was imported")

class Knot:
    """Ties.

        Indented text keeps its own indent.

    The rest does not.
    """
    def tie(self):
        """Tie it."""
        def inner():
            """Not part of the interface."""
    class Loop:
        """A loop."""

async def untie():
    """Tie it."""

def silent(): pass
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, **files: str) -> None:
        for stem, text in {"__init__": "", **files}.items():
            path = tmp_path / name / f"{stem}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def read(*names: str, seed: int = 0) -> list[Docstrings]:
    return [*Pydoc(PydocSource(packages=[*names])).documents(seed)]


def test_a_document_is_a_class_a_function_or_a_module(package: Callable[..., None]) -> None:
    package("clewtoy_a", b=MODULE)
    assert [(document.name, document.text) for document in read("clewtoy_a")] == [
        ("clewtoy_a.b", "clewtoy_a.b\nWhat a.b is for."),
        (
            "clewtoy_a.b.Knot",
            "clewtoy_a.b.Knot\nTies.\n\n    Indented text keeps its own indent.\n\nThe rest does not.\n\n"
            "clewtoy_a.b.Knot.tie\nTie it.\n\n"
            "clewtoy_a.b.Knot.Loop\nA loop.",
        ),
    ], "the second `Tie it.` is gone, and with it the document of `untie`"
    assert "clewtoy_a" not in sys.modules
    assert "clewtoy_a.b" not in sys.modules


def test_units_are_names_and_paragraphs(package: Callable[..., None]) -> None:
    package("clewtoy_e", b=MODULE)
    _, knot = read("clewtoy_e")
    starts, headings = knot.units()
    parts = [knot.text[a:b] for a, b in pairwise([*starts, len(knot.text)])]
    name = "clewtoy_e.b.Knot"
    assert parts == [
        name,
        "\nTies.",
        "\n\n    Indented text keeps its own indent.",
        "\n\nThe rest does not.",
        f"\n\n{name}.tie",
        "\nTie it.",
        f"\n\n{name}.Loop",
        "\nA loop.",
    ]
    assert headings == [0, 0, 0, 0, 4, 4, 6, 6]


def test_the_draw_is_of_the_content_and_of_nothing_else(package: Callable[..., None]) -> None:
    package("clewtoy_f", b=MODULE)
    package("clewtoy_g", a=MODULE.replace("async def untie", "class Untie: pass\n\nasync def undo"))
    first, other = read("clewtoy_f"), read("clewtoy_g", seed=3)
    assert [document.draw for document in first] == [document.draw for document in other]
    package("clewtoy_h", **{f"m{i}": f'"""Module {i}."""' for i in range(400)})
    draws = sorted(document.draw for document in read("clewtoy_h"))
    assert all(abs(draw - i / 400) < 0.1 for i, draw in enumerate(draws)), "uniform (Kolmogorov-Smirnov, p < 0.001)"
    assert draws == sorted(document.draw for document in read("clewtoy_h", seed=1))


def test_what_python_cannot_parse_is_passed_over(package: Callable[..., None]) -> None:
    package("clewtoy_c", bad="def (:", nul='"""a\0b"""', fine='"""Fine."""')
    assert [document.name for document in read("clewtoy_c")] == ["clewtoy_c.fine"]


def test_the_order_is_the_seeds_and_not_the_disks(package: Callable[..., None]) -> None:
    package("clewtoy_d", **{f"m{i}": f'"""Module {i}."""' for i in range(20)})
    first, again, other = read("clewtoy_d"), read("clewtoy_d"), read("clewtoy_d", seed=1)
    assert first == again
    assert first != other
    assert sorted(first, key=str) == sorted(other, key=str)


@pytest.mark.parametrize("name", ["clewtoy_absent", "sys", "__main__"])
def test_a_package_without_source_is_named(name: str) -> None:
    with pytest.raises(DataError, match=name) as caught:
        find_package(name, where="/spec/source/packages/2")
    assert caught.value.where == "/spec/source/packages/2"


def test_a_single_file_is_a_package_too_and_versions_are_known() -> None:
    assert importlib.machinery.SOURCE_SUFFIXES == [".py"]
    textwrap = find_package("textwrap", where="/")
    assert [name for name, _ in textwrap.files] == ["textwrap"]
    assert textwrap.version.startswith("3.")
    assert find_package("pytest", where="/").version == f"pytest {pytest.__version__}"

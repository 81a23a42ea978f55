"""Docstrings of installed packages, read by `ast`: nothing is imported or run.

A document is one top-level class with its methods, one top-level function, or what a module says about itself. Every
docstring stands under its qualified name and appears once in the whole corpus.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.data.sources.source import PARAGRAPHS, draw_of, unicode
from clew_spec.datasets import PydocSource
from clew_spec.errors import DataError

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    files: tuple[tuple[str, Path], ...]
    """(module name, file), in the order of the module names."""


@dataclass(frozen=True)
class Docstrings:
    """A document."""

    name: str
    docstrings: tuple[tuple[str, str], ...]
    """(qualified name, text) of those that were not met before."""
    draw: float
    """In [0, 1), uniform over contents: a hash of all its docstrings, met before or not, and of nothing else."""

    @property
    def text(self) -> str:
        return "\n\n".join(f"{qualified}\n{text}" for qualified, text in self.docstrings)

    def units(self) -> tuple[list[int], list[int]]:
        """Where in the text each unit begins, a qualified name or a paragraph, and the number of its name's unit."""
        starts: list[int] = []
        headings: list[int] = []
        at = 0
        for qualified, text in self.docstrings:
            body = at + len(qualified)
            units = [max(0, at - 2), body, *(body + 1 + gap.start() for gap in PARAGRAPHS.finditer(text))]
            headings += [len(starts)] * len(units)
            starts += units  # each with the line breaks before it
            at = body + 1 + len(text) + 2
        return starts, headings


class Pydoc:
    """The docstrings of packages, file by file in an order that the seed decides.

    Files that Python cannot parse are passed over.

    Raises:
        DataError: a package is not installed.
    """

    def __init__(self, spec: PydocSource) -> None:
        self.packages = [
            find_package(name, where=f"/spec/source/packages/{number}") for number, name in enumerate(spec.packages)
        ]
        self._files_read = 0

    @property
    def title(self) -> str:
        return f"the docstrings of {', '.join(package.name for package in self.packages)}"

    def documents(self, seed: int) -> Iterator[Docstrings]:
        files = sorted(
            (hashlib.sha256(f"{seed}/{module}".encode()).digest(), module, path)
            for package in self.packages
            for module, path in package.files
        )
        seen: set[bytes] = set()
        for _, module, path in files:
            self._files_read += 1
            if (tree := _parse(path)) is not None:
                yield from _documents_of(tree, module, seen)

    def progress(self) -> tuple[float, float, str]:
        return self._files_read, sum(len(package.files) for package in self.packages), "files"

    def facts(self) -> dict[str, Any]:
        return {
            "versions": {package.name: package.version for package in self.packages},
            "files_read": self._files_read,
        }


def find_package(name: str, *, where: str) -> Package:
    """Locate an installed package without running any of it.

    Raises:
        DataError: it is not installed, or holds no Python source.
    """
    try:
        # Of a top-level name this looks, and executes nothing. `__main__` is whatever program runs now.
        spec = None if name == "__main__" else importlib.util.find_spec(name)
    except ValueError:
        spec = None
    if spec is None:
        raise DataError(
            f"the package {name} is not installed beside the worker",
            where=where,
            expected="import names of installed packages",
        )
    files: list[tuple[str, Path]] = []
    if spec.submodule_search_locations is not None:
        for root in sorted(map(Path, spec.submodule_search_locations)):
            files += ((_module_name(name, path.relative_to(root)), path) for path in root.rglob("*.py"))
    elif spec.origin is not None and spec.origin.endswith(".py"):
        files.append((name, Path(spec.origin)))
    if not files:
        raise DataError(f"the package {name} holds no Python source", where=where)
    return Package(name, _version(name), tuple(sorted(files)))


def _documents_of(tree: ast.Module, module: str, seen: set[bytes]) -> Iterator[Docstrings]:
    groups = [(module, [(module, text)] if (text := _docstring(tree)) else [])]
    for node in tree.body:
        if isinstance(node, Documented):
            name = f"{module}.{node.name}"
            groups.append((name, list(_docstrings(node, name))))
    for name, docstrings in groups:
        draw = draw_of("\0".join(text for _, text in docstrings))
        if fresh := tuple(each for each in docstrings if _is_new(each[1], seen)):
            yield Docstrings(name, fresh, draw)


def _docstrings(node: Documented, name: str) -> Iterator[tuple[str, str]]:
    if text := _docstring(node):
        yield name, text
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, Documented):
                yield from _docstrings(child, f"{name}.{child.name}")


def _docstring(node: Documented | ast.Module) -> str:
    return unicode((ast.get_docstring(node) or "").strip())


def _is_new(text: str, seen: set[bytes]) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _parse(path: Path) -> ast.Module | None:
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _module_name(package: str, relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _version(name: str) -> str:
    if name in sys.stdlib_module_names:
        return platform.python_version()
    distributions = importlib.metadata.packages_distributions().get(name, [])
    versions = {f"{each} {importlib.metadata.version(each)}" for each in distributions}
    return ", ".join(sorted(versions)) or "unknown"

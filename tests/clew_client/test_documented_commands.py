"""Every command that the documents show is one: its words, flags and values are taken as they stand there."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from clew_client.cli import build

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy" / "README.md"]
UsageError: Any = typer.BadParameter.__base__
"""Which typer does not name."""
OURS = ("clew", ".venv/bin/clew")
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> Iterator[Any]:
    for document in DOCUMENTS:
        for block in SHELL.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.sub(r"<\s*\S+", "", line), comments=True)
                for command in " ".join(map(shlex.quote, words)).split("'&&'"):
                    said = shlex.split(command)
                    if said and said[0] in OURS:
                        yield pytest.param(said[1:], id=f"{document.name}: {' '.join(said)}"[:100])


@pytest.mark.parametrize("words", list(commands()))
def test_it_is_a_command(words: list[str]) -> None:
    parse(words)


def test_what_is_none_is_told_apart() -> None:
    for wrong in (["jobz"], ["jobs", "--stat", "failed"], ["retry"], ["jobs", "--limit", "many"], ["up", "a"]):
        with pytest.raises(UsageError):
            parse(wrong)


@cache
def clew() -> Any:
    return typer.main.get_command(build())


def parse(words: list[str]) -> None:
    """Down to the last sub-command, without running it."""
    command: Any = clew()
    context = command.make_context("clew", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)

"""Requests as the dashboard writes them for elsewhere, read by what would read them there."""

import ast
import inspect
import json
import shlex
from typing import Any

import pytest

from clew_client import Lab
from clew_client.cli import main
from clew_client.commands import submit
from clew_client.requests import job_request
from clew_spec.jobs import JobRequest


def read(language: str, text: str, monkeypatch: pytest.MonkeyPatch) -> JobRequest:
    """What is asked for. Raises, or fails, where it would not be understood."""
    match language:
        case "CLI":
            return _by_command_line(text, monkeypatch)
        case "Python":
            return _by_python(text)
        case _:
            return JobRequest.model_validate_json(_words(text)[-1])


def _words(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "))


def _by_command_line(text: str, monkeypatch: pytest.MonkeyPatch) -> JobRequest:
    command, _, file = text.partition(" <<'JSON'\n")
    if file:
        assert command == "clew submit -"
        return job_request(json.loads(file.removesuffix("\nJSON")))
    name, *words = _words(command)
    assert name == "clew"
    asked: list[JobRequest] = []
    monkeypatch.setattr(submit, "_submit", lambda request, _values: asked.append(request))
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return asked[0]


def _by_python(text: str) -> JobRequest:
    """What `Lab.submit` makes of the arguments it is called with, if it takes them."""
    [call] = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "submit"
    ]
    positional = [ast.literal_eval(each) for each in call.args]
    named: dict[str, Any] = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    arguments = inspect.signature(Lab.submit).bind(None, *positional, **named).arguments
    del arguments["self"]
    return job_request(arguments.pop("spec"), **arguments)

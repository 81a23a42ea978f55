"""Roles, and names that people choose."""

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clew_spec.people import (
    MAX_TEXT,
    PERMISSIONS,
    PLATFORM,
    Password,
    Permission,
    Role,
    SessionRequest,
    Text,
    UserRequest,
)
from clew_spec.validation import problem_of_validation

pytestmark = pytest.mark.science

TEXT: TypeAdapter[str] = TypeAdapter(Text)


def test_each_role_may_what_those_before_it_may_and_more() -> None:
    ordered = [PERMISSIONS[role] for role in (Role.VIEWER, Role.MEMBER, Role.MAINTAINER, Role.ADMIN)]
    assert all(lower < higher for lower, higher in pairwise(ordered))
    assert set(PERMISSIONS) == set(Role)
    assert set().union(*ordered) | PLATFORM == set(Permission), "a permission that nobody has"
    changing = {one for one in Permission if not one.endswith(":read")} - {Permission.KEY_CREATE}
    assert not PERMISSIONS[Role.VIEWER] & changing


def test_an_admin_of_the_lab_sees_no_project_by_that_alone() -> None:
    data = {Permission.RECORD_READ, Permission.JOB_READ, Permission.JOB_SUBMIT, Permission.JOB_MANAGE}
    assert not PLATFORM & (data | {Permission.KEY_MANAGE, Permission.AUDIT_READ, Permission.KEY_CREATE})


@given(st.text(max_size=MAX_TEXT + 20))
def test_a_name_that_is_taken_is_one_line_to_be_read_and_has_one_spelling(given: str) -> None:
    try:
        name = TEXT.validate_python(given)
    except ValidationError:
        return
    assert TEXT.validate_python(name) == name
    assert unicodedata.is_normalized("NFC", name)
    assert 1 <= len(name) <= MAX_TEXT
    assert len(name.splitlines()) == 1
    assert name == name.strip()
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") for character in name)


@pytest.mark.parametrize(
    "given",
    [
        *("", "  ", "x" * 101, "\u0301", "\u200d"),
        *("a\0b", "a\nb", "\x1b[31mred", "\u2028"),
        *("\u202egpj.exe", "zero\u200bwidth", "\ufeffbom", "\ud800", "\U000f0000"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(ValidationError):
        TEXT.validate_python(given)


@pytest.mark.parametrize("given", ["Ada", "Ada's laptop", "Łukasz", "李雷", "می\u200cخواهم", "👩\u200d🔬", "e\u0301"])
def test_names_of_all_scripts_are_taken(given: str) -> None:
    assert TEXT.validate_python(given) == unicodedata.normalize("NFC", given)


@pytest.mark.parametrize("secret", ["short", "aaaaaaaaaaaaaaaaaa", "s3cret" + "x" * 2000])
def test_a_password_that_is_refused_is_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        UserRequest.model_validate({"name": "ada", "password": secret})
    problem = problem_of_validation(caught.value.errors(include_url=False), UserRequest)
    assert problem.where == "/password"
    assert secret not in problem.model_dump_json()
    assert TypeAdapter(Password).validate_python("thread of ariadne")


@pytest.mark.parametrize(
    "body",
    [{}, {"key": "k", "name": "n"}, {"name": "n"}, {"password": "p"}, {"key": "k", "name": "n", "password": "p"}],
)
def test_one_signs_in_one_way(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either a key, or a name and a password"):
        SessionRequest.model_validate(body)

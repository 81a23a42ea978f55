"""The running API against its own description, by cases that schemathesis makes up."""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok, Result
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant, World
from tests.clew_api.test_scope import furnish

from clew_spec.people import Role

Operation = APIOperation[Any, Any, Any, Any]

FEW, MANY = 10, 20_000
"""Cases for each operation, of a quick run; cases altogether, of `make test-full`."""
UNENDING = ("stream_changes", "stream_job_events")
EITHER = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
SAID = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    not_a_server_error,
]


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> int | None:
    """How many altogether, in a long run."""
    return MANY if "peers" in request.config.getoption("markexpr") else None


@pytest.mark.timeout(3600)
def test_no_case_breaks_the_api_or_its_description(
    running: Running, world: World, alice: Tenant, cases: int | None
) -> None:
    """No 5xx, no status, type or shape that is not declared; asked with the key of an admin of lab and project."""
    chief = world.member(alice.project, "chief", Role.ADMIN, admin=True)
    known = {name: str(id) for name, id in furnish(world, alice, "project").items()}
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json", wait_for_schema=10)
    found = [described(result) for result in schema.get_all_operations()]
    operations = [one for one in found if one.definition.raw["operationId"] not in UNENDING]
    assert len(operations) >= 40
    each = FEW if cases is None else -(-cases // len(operations))
    answered: Counter[int] = Counter()
    for operation in operations:
        try_out(operation, each, known, chief.auth, answered)
    assert {200, 404, 422} <= set(answered), answered
    assert answered[401] + answered[403] < answered[200], "the key that asks has lost what it may"


def described(result: Result[Operation, Any]) -> Operation:
    assert isinstance(result, Ok), result.err()
    return result.ok()


def try_out(
    operation: Operation, each: int, known: dict[str, str], auth: dict[str, str], answered: Counter[int]
) -> None:
    @settings(max_examples=each, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def holds(data: Any) -> None:
        case: Case[Any] = data.draw(operation.as_strategy(data.draw(EITHER)))
        if data.draw(st.booleans()):
            given = case.path_parameters or {}
            case.path_parameters = {**given, **{name: id for name, id in known.items() if name in given}}
        answer = case.call(headers=auth)
        case.validate_response(answer, checks=SAID)
        answered[answer.status_code] += 1

    holds()

"""Whatever happens to the connections, every event arrives once and in order."""

import pytest
from fastapi.responses import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clew_client.contract import Broken, Contract, problem_answer
from tests.clew_client.specs import EVALUATE

from clew_client import Lab
from clew_client import stream as stream_module
from clew_client.errors import UnexpectedAnswer
from clew_spec.errors import NotFound, Unavailable
from clew_spec.jobs import JobState

N = 30

cuts = st.lists(st.builds(Broken, after=st.integers(0, 4500), torn=st.booleans()), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=cuts, repeat=st.integers(0, 5), after=st.none() | st.integers(0, N))
def test_no_event_is_lost_or_repeated(
    contract: Contract, client: Lab, cuts: list[Broken], repeat: int, after: int | None
) -> None:
    contract.reset()
    job = contract.add(EVALUATE)
    for step in range(N - 1):
        contract.happen(job, "log", level="info", message=f"step {step}: é\r\n\n{'x' * (step % 7)}")
    contract.end(job, JobState.SUCCEEDED)
    contract.cuts.extend(cuts)
    contract.repeat = repeat
    got = list(client.events(job.id, after))
    assert got == [event for event in contract.events[job.id] if event.seq > (after or 0)]
    assert cuts or contract.streams == 1


def test_passing_faults_do_not_end_the_stream(contract: Contract, client: Lab) -> None:
    job = contract.add(EVALUATE)
    contract.end(job, JobState.SUCCEEDED)
    contract.answers.extend([Response(status_code=503), problem_answer(Unavailable("restarting").problem())])
    assert [event.seq for event in client.events(job.id)] == [1]


def test_the_stream_reports_what_will_not_pass(contract: Contract, client: Lab) -> None:
    contract.answers.append(problem_answer(NotFound("no such job").problem()))
    job = contract.add(EVALUATE)
    with pytest.raises(NotFound):
        next(client.events(job.id))
    contract.answers.append(Response("<html>", media_type="text/html"))
    with pytest.raises(UnexpectedAnswer):
        next(client.events(job.id))
    assert contract.streams == 0


def test_a_stream_that_never_brings_anything_is_given_up(contract: Contract, client: Lab) -> None:
    job = contract.add(EVALUATE)  # never ends, and the server closes each connection at once
    with pytest.raises(Unavailable):
        list(client.events(job.id))
    assert contract.streams == stream_module.TRIES

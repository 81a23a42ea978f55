"""Jobs under random faults end once, with what their last holder made; and a store without the fence is found out."""

import pytest
from sqlalchemy import update
from tests.chaos.ledger import Asked, account
from tests.chaos.run import run
from tests.support.jobs import Queue, queue
from tests.support.servers import Lab

from clew_lab.catalogue.tables import Job
from clew_lab.storage import Store

__all__ = ["queue"]

pytestmark = pytest.mark.chaos


def test_whatever_happens_an_accepted_job_ends_once() -> None:
    ledger, done = run(jobs=40, seed=7, seconds=60)
    assert ledger.findings == []
    assert ledger.clean, ledger
    assert ledger.accepted >= 40
    assert all(done.values()), done


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_hundred_of_them() -> None:
    ledger, done = run(jobs=200, seed=7, seconds=240)
    assert ledger.findings == []
    assert ledger.clean, ledger
    assert ledger.accepted >= 200
    assert all(done.values()), done


def test_without_the_fence_the_account_does_not_add_up() -> None:
    def found(seed: int) -> int:
        ledger, _ = run(jobs=12, seed=seed, seconds=40, only=("freeze a worker",), changes="unfenced", ms=(200, 300))
        return ledger.wrong + ledger.duplicated

    # Whether a job is frozen just where it hurts is a matter of luck.
    assert any(found(seed) > 0 for seed in (7, 8, 9))


def test_the_account_names_what_is_lost_and_what_came_twice(queue: Queue, lab: Lab) -> None:
    first, second, untold = (queue.accept().id for _ in range(3))
    with queue.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == untold).values(idempotency_key="untold"))
    ledger = account(queue.sessions, Store.of(lab.settings), [Asked(3, {first, second})], queue.actor.project_id)
    assert str(ledger) == "accepted 1 terminal 0 lost 1 wrong 0 duplicated 2"
    assert not ledger.clean

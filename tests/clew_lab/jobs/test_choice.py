"""The rule by which workers are given, as laws, and what it comes to in the long run."""

import heapq
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew_lab.jobs.choice import Candidate, Free, choose
from clew_lab.jobs.share import AHEAD_S, Account

pytestmark = pytest.mark.lab

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@st.composite
def decisions(draw: st.DrawFn) -> tuple[list[Free], list[Candidate], dict[UUID, Account]]:
    workers = [UUID(int=number) for number in range(draw(st.integers(0, 5)))]
    projects = [UUID(int=100 + number) for number in range(draw(st.integers(1, 4)))]
    accounts = {
        id: Account(
            str(id),
            weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
            used=draw(st.sampled_from([0.0, 1.0, 59.0, 60.0, 1e4])),
            in_flight=draw(st.integers(0, 3)),
            max_in_flight=draw(st.none() | st.integers(0, 4)),
        )
        for id in projects
    }
    jobs = [
        Candidate(
            UUID(int=1000 + number),
            draw(st.sampled_from(projects)),
            draw(st.sampled_from([-1, 0, 1])),
            NOON + timedelta(minutes=draw(st.integers(0, 5))),
            fits=draw(st.permutations(draw(st.lists(st.sampled_from(workers), unique=True)) if workers else [])),
            aged=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 10)))
    ]
    kept = draw(st.lists(st.sampled_from(jobs), unique_by=lambda job: job.id, max_size=len(workers))) if jobs else []
    machines = st.frozensets(st.sampled_from(["a", "b"]))
    free = [Free(id, kept[place] if place < len(kept) else None, draw(machines)) for place, id in enumerate(workers)]
    return free, jobs, accounts


@given(decisions())
def test_what_is_given_is_lawful(decision: tuple[list[Free], list[Candidate], dict[UUID, Account]]) -> None:
    free, jobs, accounts = decision
    before = {id: replace(account) for id, account in accounts.items()}
    choice = choose(free, jobs, accounts)
    of_worker = {worker.id: worker for worker in free}
    worker_of = {job.id: worker for job, worker in choice.given}
    assert len(worker_of) == len(choice.given) == len(set(worker_of.values())), "a job or a worker was given twice"
    for job, id in choice.given:
        worker = of_worker[id]
        assert id in job.fits
        assert worker.kept is None or worker.kept.id == job.id or worker.kept.priority < job.priority, "it was kept"
    places = [place for id in worker_of.values() for place in of_worker[id].places]
    assert len(places) == len(set(places)), "what is left there was not counted anew"
    given_to = Counter(job.project_id for job, _ in choice.given)
    for id, account in accounts.items():
        assert account.in_flight == before[id].in_flight + given_to[id]
        assert account.max_in_flight is None or given_to[id] == 0 or account.in_flight <= account.max_in_flight
        assert account.used == pytest.approx(before[id].used + given_to[id] * AHEAD_S)
    left = [worker for worker in free if worker.id not in worker_of.values() and worker.places.isdisjoint(places)]
    waiting = [job for job in jobs if job.id not in worker_of and not accounts[job.project_id].full]
    for job in waiting:
        idle = [worker.id for worker in left if worker.id in job.fits and worker.may_run(job)]
        assert not idle, "a worker stays free beside a job that it could run"
        for other, id in choice.given:
            if id in job.fits and of_worker[id].kept is None:
                assert other.priority >= job.priority
                kept = any(worker.kept is not None and worker.kept.id == other.id for worker in free)
                assert kept or other.project_id != job.project_id or other.turn < job.turn, "it was overtaken"
    assert {job.id for job in choice.passed} <= {job.id for job in waiting if job.aged} | {
        job.id for job in jobs if accounts[job.project_id].full
    }


@given(
    used=st.lists(st.floats(0, 1e4), min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([0.5, 1.0, 4.0]), min_size=4, max_size=4),
    workers=st.integers(1, 6),
)
def test_who_has_least_is_first_and_what_it_is_given_counts(
    used: list[float], weights: list[float], workers: int
) -> None:
    """Given together or one by one: the same."""

    def fresh() -> dict[UUID, Account]:
        return {UUID(int=n): Account(str(n), weights[n], seconds) for n, seconds in enumerate(used)}

    slots = [Free(UUID(int=100 + n)) for n in range(workers)]
    jobs = [
        Candidate(UUID(int=1000 * project + n), UUID(int=project), 0, NOON, [slot.id for slot in slots])
        for project in range(len(used))
        for n in range(workers)
    ]
    together = [job.id for job, _ in choose(slots, jobs, fresh()).given]
    accounts, one_by_one = fresh(), list[UUID]()
    for slot in slots:
        least = min(account.share for account in accounts.values())
        [(job, _)] = choose([slot], [job for job in jobs if job.id not in one_by_one], accounts).given
        assert accounts[job.project_id].share - AHEAD_S / accounts[job.project_id].weight == pytest.approx(least)
        one_by_one.append(job.id)
    assert together == one_by_one


@pytest.mark.parametrize("seed", range(3))
def test_in_the_long_run_shares_are_as_weights(seed: int) -> None:
    """Projects that always have something waiting, of very different lengths, on a few workers."""
    rng = random.Random(seed)  # noqa: S311
    weights = {UUID(int=n): rng.choice([1.0, 2.0, 5.0]) for n in range(4)}
    lengths = {id: rng.choice([20.0, 60.0, 300.0]) for id in weights}
    seconds = _simulate(rng, weights, lengths, workers=3, until=4e4)
    total, weight = sum(seconds.values()), sum(weights.values())
    for id in weights:
        assert seconds[id] / total == pytest.approx(weights[id] / weight, abs=0.03)


def _simulate(
    rng: random.Random, weights: Mapping[UUID, float], lengths: Mapping[UUID, float], *, workers: int, until: float
) -> dict[UUID, float]:
    """Worker-seconds of each project, nothing forgotten. Every project has a job waiting at any time."""
    done = dict.fromkeys(weights, 0.0)
    running: list[tuple[float, float, UUID, UUID]] = []
    idle, now, number = [UUID(int=1000 + n) for n in range(workers)], 0.0, 10_000
    while now < until:
        accounts = {
            id: Account(
                str(id),
                weights[id],
                done[id] + sum(max(AHEAD_S, now - begun) for _, begun, owner, _ in running if owner == id),
            )
            for id in weights
        }
        jobs = []
        for id in weights:
            number += 1
            jobs.append(Candidate(UUID(int=number), id, 0, NOON, list(idle)))
        for job, worker in choose([Free(id) for id in idle], jobs, accounts).given:
            length = rng.expovariate(1 / lengths[job.project_id])
            heapq.heappush(running, (now + length, now, job.project_id, worker))
            idle.remove(worker)
        now, begun, owner, worker = heapq.heappop(running)
        done[owner] += now - begun
        idle.append(worker)
    return done


def test_a_job_for_which_a_worker_is_kept_goes_before_who_has_less() -> None:
    big, small = UUID(int=1), UUID(int=2)
    accounts: dict[UUID, Any] = {big: Account("big", 1, 1e6), small: Account("small", 1, 0)}
    worker = UUID(int=3)
    kept = Candidate(UUID(int=10), big, 0, NOON, [worker], aged=True)
    others = [Candidate(UUID(int=20 + n), small, 0, NOON - timedelta(days=1), [worker]) for n in range(3)]
    assert choose([Free(worker, kept)], [kept, *others], accounts).given == [(kept, worker)]
    urgent = replace(others[0], priority=1)
    assert choose([Free(worker, kept)], [kept, urgent], accounts).given == [(urgent, worker)]
    assert choose([Free(worker)], [kept, *others], accounts).given == [(others[0], worker)]


def test_an_aged_job_is_named_when_it_is_passed_and_not_before() -> None:
    project, worker = UUID(int=1), UUID(int=3)
    big = Candidate(UUID(int=10), project, 0, NOON, [], aged=True)
    small = Candidate(UUID(int=11), project, 0, NOON + timedelta(1), [worker])

    def passed(*jobs: Candidate, free: tuple[Free, ...] = (Free(worker),)) -> list[Candidate]:
        return choose(free, jobs, {project: Account("p", 1, 0)}).passed

    assert passed(big, small) == [big]
    assert passed(replace(big, aged=False), small) == []
    assert passed(big, small, free=()) == [], "nobody passes it where no worker is free"
    assert passed(big, replace(small, priority=1)) == [], "the only worker went to one before it"

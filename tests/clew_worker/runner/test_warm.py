"""What stays in a runner's memory: never more than the budget beside a job, never another project's."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clew_worker.runner.warm import Name, Shelf

pytestmark = pytest.mark.lab

BUDGET = 10
JOBS = st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1), max_size=12)


def name(letter: str, project: str = "p") -> Name:
    return ("coder", project, letter, "cpu", torch.float32)


def loading(letter: str) -> Callable[[], list[str]]:
    return lambda: [letter]


def not_again() -> list[str]:
    pytest.fail("it is there")


@given(st.fixed_dictionaries({letter: st.integers(0, 12) for letter in "abcdefgh"}), JOBS)
def test_a_job_finds_its_own_and_others_stay_while_there_is_room(sizes: dict[str, int], jobs: list[set[str]]) -> None:
    shelf = Shelf()
    last: list[str] = []
    for job in jobs:
        needed = {name(letter): sizes[letter] for letter in sorted(job)}
        before = {letter for letter in sizes if name(letter) in shelf}
        shelf.make_room(needed, BUDGET)
        kept = {letter for letter in sizes if name(letter) in shelf}
        others = kept - job
        room = BUDGET - sum(needed.values())
        assert sum(sizes[letter] for letter in others) <= max(0, room)
        assert before & job <= kept, "what the job needs does not go"
        if gone := before - kept - job:
            newest = max(gone, key=last.index)
            assert all(last.index(letter) > last.index(newest) for letter in others), "the longest unused goes first"
            assert sum(sizes[letter] for letter in others) + sizes[newest] > room or not sizes[newest], "not too many"
        for letter in sorted(job):
            made = letter not in kept
            found = shelf.take(name(letter), sizes[letter], loading(letter))
            assert found == [letter]
            assert shelf.take(name(letter), sizes[letter], not_again) is found
            assert made == (letter not in before)
            last = [each for each in last if each != letter] + [letter]


def test_another_projects_is_not_found() -> None:
    shelf = Shelf()
    mine = shelf.take(name("a", "mine"), 1, lambda: object())
    assert shelf.take(name("a", "theirs"), 1, lambda: object()) is not mine

"""Questions of one moment share an answer's way, and nothing else."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from clew_api.together import LOT, MOST, Together
from clew_spec.errors import Unavailable


class Answering:
    """Doubles numbers, a lot at a time, and only when it is let; notes the lots. Negative numbers are errors."""

    def __init__(self) -> None:
        self.lots: list[tuple[str, list[int]]] = []
        self.begun = threading.Semaphore(0)
        self.let = {"a": threading.Semaphore(0), "b": threading.Semaphore(0)}
        self.together = Together(self._answer)
        self.raises: BaseException | None = None
        self.answers: list[int | Exception] | None = None

    def _answer(self, key: str, numbers: Sequence[int]) -> list[int | Exception]:
        self.lots.append((key, list(numbers)))
        self.begun.release()
        assert self.let[key].acquire(timeout=10)
        if self.raises is not None:
            raise self.raises
        if self.answers is not None:
            return self.answers
        return [2 * number if number > 0 else ValueError(number) for number in numbers]

    async def wait_until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)

    async def ask(self, key: str, *numbers: int) -> "list[asyncio.Task[int]]":
        """Has asked when it returns."""
        tasks = [asyncio.create_task(self.together.ask(key, number)) for number in numbers]
        await asyncio.sleep(0)
        return tasks


Scene = Callable[[Answering, "list[asyncio.Task[int]]"], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture
def play() -> Play:
    """Plays a scene in a loop of its own, with the question 1 of the key `a` being answered; it ends in time."""

    def play(scene: Scene) -> None:
        async def run() -> None:
            answering = Answering()
            first = await answering.ask("a", 1)
            await answering.wait_until_begun()
            await scene(answering, first)

        asyncio.run(asyncio.wait_for(run(), 30))

    return play


async def results(*tasks: "asyncio.Task[int]") -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_comes_meanwhile_gathers_and_no_question_joins_a_lot_that_has_begun(play: Play) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        others = await answering.ask("a", *range(2, LOT + 4))
        answering.let["a"].release(3)
        assert await results(*first, *others) == [2 * number for number in range(1, LOT + 4)]
        assert [len(lot) for _, lot in answering.lots] == [1, LOT, 2], "a lot has an end"
        answering.let["a"].release()
        assert await results(*await answering.ask("a", 7)) == [14], "and afterwards it goes on as before"

    play(scene)


def test_keys_do_not_wait_for_each_other(play: Play) -> None:
    async def scene(answering: Answering, stuck: "list[asyncio.Task[int]]") -> None:
        answering.let["b"].release()
        assert await results(*await answering.ask("b", 2)) == [4]
        assert not stuck[0].done()
        answering.let["a"].release()
        assert await results(*stuck) == [2]

    play(scene)


def test_an_error_goes_to_who_asked_and_who_has_gone_is_not_answered_for(play: Play) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        mixed = await answering.ask("a", 2, -3, 4, 5)
        mixed[2].cancel()
        answering.let["a"].release(2)
        found = await results(*first, *mixed)
        assert found[:2] == [2, 4]
        assert isinstance(found[2], ValueError)
        assert isinstance(found[3], asyncio.CancelledError)
        assert found[4] == 10
        assert answering.lots[1] == ("a", [2, -3, 5])

    play(scene)


@pytest.mark.parametrize("error", [ZeroDivisionError(), Unavailable("away"), StopIteration(), SystemExit(1)])
def test_what_befalls_a_lot_is_raised_in_each_task_by_itself_and_the_next_is_answered(
    play: Play, error: BaseException
) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        others = await answering.ask("a", 2, 3)
        answering.let["a"].release()
        assert await results(*first) == [2]
        answering.raises = error
        answering.let["a"].release()
        found = await results(*others)
        expected = type(error) if isinstance(error, ArithmeticError | Unavailable) else RuntimeError
        assert [type(one) for one in found] == [expected, expected]
        assert str(error) in str(found[0])
        assert found[0] is not found[1]
        answering.raises = None
        answering.let["a"].release()
        assert await results(*await answering.ask("a", 6)) == [12]

    play(scene)


def test_answers_that_are_too_few_or_cannot_be_raised_leave_nobody_waiting(play: Play) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        answering.answers = [2, 4]
        answering.let["a"].release()
        assert [type(one) for one in await results(*first)] == [RuntimeError]
        answering.answers = [StopIteration()]
        answering.let["a"].release()
        assert [type(one) for one in await results(*await answering.ask("a", 2))] == [RuntimeError]

    play(scene)


def test_who_asks_beyond_what_may_wait_is_told_to_come_again(play: Play) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        waiting = await answering.ask("a", *range(1, MOST + 1))
        too_many = await answering.ask("a", 1)
        assert [type(one) for one in await results(*too_many)] == [Unavailable]
        answering.let["b"].release()
        assert await results(*await answering.ask("b", 2)) == [4], "others are answered"
        answering.let["a"].release(1 + MOST // LOT)
        assert await results(*first, *waiting) == [2, *(2 * number for number in range(1, MOST + 1))]

    play(scene)


def test_at_the_end_what_runs_is_answered_and_what_waits_is_refused(play: Play) -> None:
    async def scene(answering: Answering, first: "list[asyncio.Task[int]]") -> None:
        waiting = await answering.ask("a", 2, 3)
        closing = asyncio.create_task(answering.together.close())
        assert [type(one) for one in await results(*waiting)] == [Unavailable, Unavailable]
        assert not closing.done()
        answering.let["a"].release()
        await closing
        assert first[0].done()
        assert await results(*first) == [2]
        assert [type(one) for one in await results(*await answering.ask("a", 4))] == [Unavailable]
        assert len(answering.lots) == 1

    play(scene)

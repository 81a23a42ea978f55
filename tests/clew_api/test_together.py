"""Questions of one moment share an answer's way, and nothing else."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from clew_api.together import LOT, Together


class Answering:
    """Doubles numbers, a lot at a time, and only when it is let; notes the lots. Negative numbers are errors."""

    def __init__(self) -> None:
        self.lots: list[tuple[str, list[int]]] = []
        self.begun = threading.Semaphore(0)
        self.let = {"a": threading.Semaphore(0), "b": threading.Semaphore(0)}
        self.together = Together(self._answer)

    def _answer(self, key: str, numbers: Sequence[int]) -> list[int | Exception]:
        self.lots.append((key, list(numbers)))
        self.begun.release()
        assert self.let[key].acquire(timeout=10)
        if 0 in numbers:
            raise ZeroDivisionError
        return [2 * number if number > 0 else ValueError(number) for number in numbers]

    async def wait_until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)

    def ask(self, key: str, *numbers: int) -> "list[asyncio.Task[int]]":
        return [asyncio.create_task(self.together.ask(key, number)) for number in numbers]


async def asked(answering: Answering, key: str, *numbers: int) -> "list[asyncio.Task[int]]":
    tasks = answering.ask(key, *numbers)
    await asyncio.sleep(0)  # so that they have asked
    return tasks


def test_what_comes_meanwhile_gathers_and_no_question_joins_a_lot_that_has_begun() -> None:
    async def run() -> None:
        answering = Answering()
        first = await asked(answering, "a", 1)
        await answering.wait_until_begun()
        others = await asked(answering, "a", *range(2, LOT + 4))
        answering.let["a"].release(3)
        doubled = await asyncio.gather(*first, *others)
        assert doubled == [2 * number for number in range(1, LOT + 4)]
        sizes = [len(lot) for _, lot in answering.lots]
        assert sizes == [1, LOT, 2], "a lot has an end"
        answering.let["a"].release()
        assert await asyncio.gather(*answering.ask("a", 7)) == [14], "and afterwards it goes on as before"

    asyncio.run(run())


def test_keys_do_not_wait_for_each_other() -> None:
    async def run() -> None:
        answering = Answering()
        stuck = await asked(answering, "a", 1)
        await answering.wait_until_begun()
        answering.let["b"].release()
        assert await asyncio.gather(*answering.ask("b", 2)) == [4]
        assert not stuck[0].done()
        answering.let["a"].release()
        assert await asyncio.gather(*stuck) == [2]

    asyncio.run(run())


def test_an_error_goes_to_who_asked_and_one_of_the_whole_lot_to_all_of_it() -> None:
    async def run() -> None:
        answering = Answering()
        first = await asked(answering, "a", 1)
        await answering.wait_until_begun()
        mixed = await asked(answering, "a", 2, -3, 4)
        mixed[2].cancel()  # who has gone disturbs nobody
        answering.let["a"].release(2)
        found = await asyncio.gather(*first, *mixed, return_exceptions=True)
        assert found[:2] == [2, 4]
        assert isinstance(found[2], ValueError)
        assert isinstance(found[3], asyncio.CancelledError)
        answering.let["a"].release(2)
        for task in await asked(answering, "a", 0, 5):
            with pytest.raises(ZeroDivisionError):
                await task
        answering.let["a"].release()
        assert await asyncio.gather(*answering.ask("a", 6)) == [12]

    asyncio.run(run())

"""What is asked for at the same moment is answered together: one thread and one transaction for all of it."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")

LOT = 64
"""Questions that are answered at once, at most."""


class Together(Generic[K, Q, A]):
    """Gathers questions of one key while those before them are being answered, so that no question waits for company.

    A question joins no lot that has begun: its answer is never older than it is. Keys do not wait for each other. To
    be used in one event loop.

    Args:
        answer: is called in a thread with a key and its questions, at least one, and returns as many answers; those
            that are exceptions are raised where the question was asked. One that it raises goes to all of them.
    """

    def __init__(self, answer: Callable[[K, Sequence[Q]], Sequence[A | Exception]]) -> None:
        self._answer = answer
        self._waiting: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, key: K, question: Q) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((question, answer))
        else:
            self._waiting[key] = [(question, answer)]
            # Without the context of who came first: what it knows of one request is not of the others.
            task = asyncio.create_task(self._work(key), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self, key: K) -> None:
        while waiting := self._waiting[key]:
            lot, self._waiting[key] = waiting[:LOT], waiting[LOT:]
            answers: Sequence[A | Exception]
            try:
                answers = await run_in_threadpool(self._answer, key, [question for question, _ in lot])
            except Exception as error:  # whatever it is, it is raised where it was asked for
                answers = [error] * len(lot)
            for (_, future), answer in zip(lot, answers, strict=True):
                if future.done():  # who asked has gone
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        del self._waiting[key]

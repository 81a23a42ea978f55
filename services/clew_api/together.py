"""What is asked for at the same moment is answered together: one thread and one transaction for all of it."""

import asyncio
import copy
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from clew_spec.errors import Unavailable

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")

LOT = 64
"""Questions that are answered at once, at most."""
MOST = 16 * LOT
"""Questions of one key that may wait: what comes beyond would wait for long, and hold its memory meanwhile."""


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
        self._closed = False

    async def ask(self, key: K, question: Q) -> A:
        """Raises what `answer` does, and `Unavailable` where too much of this key waits already, or after `close`."""
        if self._closed:
            raise _stopping()
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            if len(self._waiting[key]) >= MOST:
                raise Unavailable("more is asked for at once than can be answered", hint="try again in a moment")
            self._waiting[key].append((question, answer))
        else:
            self._waiting[key] = [(question, answer)]
            # Without the context of who came first: what it knows of one request is not of the others.
            task = asyncio.create_task(self._work(key), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def close(self) -> None:
        """What is being answered is answered before this ends; what waits for its turn is refused."""
        self._closed = True
        for key in self._waiting:
            self._refuse(key)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, key: K) -> None:
        try:
            while waiting := [one for one in self._waiting[key] if not one[1].done()]:  # the others have gone
                lot, self._waiting[key] = waiting[:LOT], waiting[LOT:]
                try:
                    answers = await self._answers(key, [question for question, _ in lot])
                except asyncio.CancelledError:  # the loop ends: nobody is to wait for what will not come
                    self._waiting[key] += lot
                    raise
                for (_, future), answer in zip(lot, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, BaseException):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._refuse(key)
            del self._waiting[key]

    async def _answers(self, key: K, questions: Sequence[Q]) -> list[A | Exception]:
        """As many as there are questions, whatever `answer` does."""
        try:
            answers = [*await run_in_threadpool(self._answer, key, questions)]
            if len(answers) != len(questions):
                raise RuntimeError(f"{len(answers)} answers to {len(questions)} questions")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # whatever it is, it is raised where it was asked for
            return _raisable([error] * len(questions))
        return _raisable(answers)

    def _refuse(self, key: K) -> None:
        for _, future in self._waiting[key]:
            if not future.done():
                future.set_exception(_stopping())
        self._waiting[key] = []


def _stopping() -> Unavailable:
    return Unavailable("the API is being stopped", hint="try again in a moment")


def _raisable(answers: Sequence[A | BaseException]) -> list[A | Exception]:
    """With exceptions that a task can raise without ending the loop, each once: a task adds to its traceback."""
    raised: set[int] = set()
    found: list[A | Exception] = []
    for answer in answers:
        if not isinstance(answer, BaseException):
            found.append(answer)
            continue
        fit = isinstance(answer, Exception) and not isinstance(answer, StopIteration)
        found.append(answer if fit and id(answer) not in raised else _like(answer))  # type: ignore[arg-type]
        raised.add(id(answer))
    return found


def _like(error: BaseException) -> Exception:
    try:
        own = copy.copy(error)
    except Exception:  # not every class can be made from what its errors say
        own = error
    if own is error or not isinstance(own, Exception) or isinstance(own, StopIteration):
        own = RuntimeError(f"{type(error).__name__}: {error}")
    own.__cause__ = error
    return own

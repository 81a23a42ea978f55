"""The activations of one step after another, those of the next read while coders learn from these."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from clew.models import Model
from clew.training.activations import Activations, Route
from clew.training.stream import TokenStream


class Harvest:
    """Reads ahead by one step, in a thread and, on CUDA, a stream of its own; what it reads does not depend on that.

    `ahead` is worth its memory, a second batch of activations, where the model and the coders do not fill the device by
    turns; two cores they do. Nothing else may run the model while a step is being read: `settle` waits for that.
    """

    def __init__(
        self, model: Model, stream: TokenStream, routes: Sequence[Route], *, ahead: bool, shrink: int = 1
    ) -> None:
        self.ahead, self.shrink = ahead, shrink
        self._model, self._stream, self._routes = model, stream, list(routes)
        self._next: tuple[int, Future[_Read]] | None = None
        # The number of threads is a thread's own setting, and decides how sums are rounded.
        self._thread = ThreadPoolExecutor(1, "harvest", torch.set_num_threads, (torch.get_num_threads(),))
        self._side: torch.cuda.Stream | None = None
        if model.device.type == "cuda":
            self._side = torch.cuda.Stream(model.device)

    def step(self, step: int, *, last: bool = False) -> Activations:
        """Of one step; unless it is the `last`, the next one's are then read ahead."""
        waiting, self._next = self._next, None
        read = waiting[1].result() if waiting is not None and waiting[0] == step else self._read(step)
        if self.ahead and not last:
            self._next = step + 1, self._thread.submit(self._read, step + 1)
        return self._handed_over(read)

    def settle(self) -> None:
        """Return when nothing is being read; what was read ahead stays."""
        if self._next is not None:
            self._next[1].exception()

    def slower(self) -> bool:
        """Use less memory: read no further ahead, then pass by pass over fewer rows. False where it can be no less."""
        self.settle()
        self._next = None
        if self.ahead:
            self.ahead = False
        elif self.shrink < MOST_SHRINK:
            self.shrink *= 2
        else:
            return False
        return True

    def _read(self, step: int) -> "_Read":
        if self._side is None:
            return Activations(self._model, self._stream.batch(step), self._routes, shrink=self.shrink), None
        with torch.cuda.stream(self._side):
            found = Activations(self._model, self._stream.batch(step), self._routes, shrink=self.shrink)
            return found, self._side.record_event()

    def _handed_over(self, read: "_Read") -> Activations:
        found, event = read
        if event is not None:
            here = torch.cuda.current_stream(self._model.device)
            here.wait_event(event)
            for tensor in found.tensors():
                tensor.record_stream(here)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)


_Read = tuple[Activations, torch.cuda.Event | None]
MOST_SHRINK = 64

"""The workers of one machine: one for each pool and GPU, each started again when it falls over."""

import argparse
import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Literal, get_args

from clew_lab import logs
from clew_lab.settings import settings
from clew_spec.jobs import Pool
from clew_worker.gpus import chosen
from clew_worker.supervisor.arguments import Arguments, checked_name, default_name, name_of_worker
from clew_worker.supervisor.process import hide
from clew_worker.supervisor.watch import Watch

Pools = Literal[Pool, "all"]


def parse(words: Sequence[str] | None = None) -> list[Arguments]:
    """The workers that a command line asks for. Raises `InvalidSpec` or `Unavailable` for GPUs that are not here."""
    parser = argparse.ArgumentParser(prog="python -m clew_worker", description="Work on the jobs of a lab.")
    parser.add_argument("--pool", choices=get_args(Pools), required=True)
    parser.add_argument(
        "--name", type=name_of_worker, help="distinct for each worker of a lab; else host, pool and GPU"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", default="cpu", help="of one worker a pool: `cpu`, `cuda` or `cuda:1`")
    where.add_argument("--gpus", help="a worker for each GPU: `auto`, `none` or numbers as in `0,1`")
    given = parser.parse_args(words)
    return workers(given.pool, [given.device] if given.gpus is None else on_gpus(given.gpus), given.name)


def on_gpus(asked: str) -> list[str]:
    """Devices, as `clew_worker.gpus.chosen` has them; the CPU where there is no GPU or none is wanted."""
    return [f"cuda:{number}" for number in chosen(asked)] or ["cpu"]


def workers(pools: Pools, devices: Sequence[str], name: str | None = None) -> list[Arguments]:
    """A worker for each pool on each device. name: of the only one; of several, what their names begin with.

    Raises `InvalidSpec` for what cannot name a worker.
    """
    wanted: tuple[Pool, ...] = get_args(Pool) if pools == "all" else (pools,)

    def named(pool: Pool, device: str) -> str:
        if name is None:
            return default_name(pool, device)
        index = device.partition(":")[2]
        parts = [name, pool if len(wanted) > 1 else "", index if len(devices) > 1 else ""]
        return checked_name("-".join(part for part in parts if part))

    return [Arguments(pool, named(pool, device), device) for device in devices for pool in wanted]


def serve(workers: Sequence[Arguments]) -> int:
    """Keep these workers going until SIGTERM or SIGINT, which drain them. Returns the worst exit code of one."""
    hide()
    logs.configure("worker-watch", settings())
    return Fleet([Watch(worker.words(), environ=_own(place)) for place, worker in enumerate(workers)]).run()


class Fleet:
    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self._codes: list[int] = []

    def run(self) -> int:
        """Blocks the main thread until every worker has ended for good."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # A worker dies with the thread that started it: each watch keeps its own until the worker has ended.
        threads = [threading.Thread(target=self._keep, args=(watch,)) for watch in self._watches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(self._codes, key=abs)

    def _keep(self, watch: Watch) -> None:
        self._codes.append(watch.keep())

    def _stop(self, _: int, __: FrameType | None) -> None:
        for watch in self._watches:
            watch.stop()


def _own(place: int) -> dict[str, str]:
    """The environment of one worker of several: each serves its metrics at a port of its own."""
    port = settings().metrics_port
    return dict(os.environ) if port is None else os.environ | {"CLEW_METRICS_PORT": str(port + place)}

"""The command line that the worker and its watch share."""

import argparse
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from clew_spec.errors import InvalidSpec
from clew_spec.jobs import Pool


@dataclass(frozen=True)
class Arguments:
    pool: Pool
    name: str
    device: str

    def words(self) -> list[str]:
        return ["--pool", self.pool, "--name", self.name, "--device", self.device]


def parse(words: Sequence[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m clew_worker.supervisor", description="Work on the jobs of one pool."
    )
    parser.add_argument("--pool", choices=get_args(Pool), required=True)
    parser.add_argument(
        "--name", type=name_of_worker, help="distinct for each worker of a lab; else host, pool and GPU"
    )
    parser.add_argument("--device", default="cpu", help="`cpu`, `cuda` or `cuda:1`")
    given = parser.parse_args(words)
    return Arguments(given.pool, given.name or default_name(given.pool, given.device), given.device)


def default_name(pool: Pool, device: str) -> str:
    """`host-train-1`: a worker for each pool and GPU of a host needs no names."""
    index = device.partition(":")[2]
    return checked_name("-".join(part for part in (socket.gethostname(), pool, index) if part))


def checked_name(value: str) -> str:
    """It names a folder, too. Raises `InvalidSpec`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
        raise InvalidSpec(
            f"{value!r} cannot name a worker", where="--name", expected="letters, digits, `.`, `_` and `-` only"
        )
    return value


def name_of_worker(value: str) -> str:
    """The same for argparse."""
    try:
        return checked_name(value)
    except InvalidSpec as error:
        raise argparse.ArgumentTypeError(str(error)) from error

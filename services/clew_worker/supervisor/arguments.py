"""The command line that the worker and its watch share."""

import argparse
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from clew_spec.jobs import Pool


@dataclass(frozen=True)
class Arguments:
    pool: Pool
    name: str
    device: str


def parse(words: Sequence[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(prog="python -m clew_worker", description="Work on the jobs of one pool.")
    parser.add_argument("--pool", choices=get_args(Pool), required=True)
    parser.add_argument("--name", type=_name, help="distinct for each worker of a lab; else host, pool and GPU")
    parser.add_argument("--device", default="cpu", help="`cpu`, `cuda` or `cuda:1`")
    given = parser.parse_args(words)
    index = given.device.partition(":")[2]  # a worker for each GPU of a host needs no names
    name = given.name or _name("-".join(part for part in (socket.gethostname(), given.pool, index) if part))
    return Arguments(given.pool, name, given.device)


def _name(value: str) -> str:
    """It names a folder, too."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
        raise argparse.ArgumentTypeError(f"{value!r}: letters, digits, `.`, `_` and `-` only")
    return value

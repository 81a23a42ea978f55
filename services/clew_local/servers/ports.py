"""TCP ports of one lab: chosen once, kept for as long as the lab lives."""

import random
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clew_local.files import locked, read_json, write_json
from clew_spec.errors import Unavailable

LOOPBACK = "127.0.0.1"
RELEASE_SECONDS = 3.0
FIRST, LAST = 12_000, 32_000
"""Below the range from which the kernel serves outgoing connections, so that a kept port is not borrowed meanwhile."""


class Ports:
    """Names to port numbers, in `ports.json` of the lab."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = read_json(path) or {}

    def get(self, *names: str) -> list[int]:
        """The ports of `names`; those not chosen yet are chosen now, free at this moment."""
        if not set(names) <= self._ports.keys():
            with self._changing():
                missing = [name for name in names if name not in self._ports]
                self._ports.update(zip(missing, free_ports(len(missing), but=self._ports.values()), strict=True))
        return [self._ports[name] for name in names]

    def pair(self, low: str, high: str, offset: int) -> None:
        """Choose the ports of `low` and `high` so that they lie `offset` apart; as they are, if they do already."""
        if low not in self._ports or self._ports.get(high) != self._ports[low] + offset:
            with self._changing():
                for port in free_ports(100, but=self._ports.values(), last=LAST - offset):
                    if port + offset not in self._ports.values() and is_free(port + offset):
                        self._ports |= {low: port, high: port + offset}
                        return
                raise Unavailable(f"no two free ports {offset} apart between {FIRST} and {LAST} on {LOOPBACK}")

    def put(self, name: str, port: int) -> None:
        if self._ports.get(name) != port:
            with self._changing():
                self._ports[name] = port

    def prefer(self, name: str, port: int) -> int:
        """The port of `name`; where none was chosen yet, `port` if it is free now."""
        if name not in self._ports:
            with self._changing():
                if name not in self._ports and is_free(port):
                    self._ports[name] = port
        return self.get(name)[0]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self._path):
            self._ports = read_json(self._path) or {}
            yield
            write_json(self._path, self._ports)

    def require_free(self, *names: str) -> None:
        """Raise Unavailable where another process holds a port of `names`, and keeps it for some seconds.

        A process that was just killed may hold its ports for a moment longer than it can be seen.
        """
        deadline = time.monotonic() + RELEASE_SECONDS
        for name, port in zip(names, self.get(*names), strict=True):
            while not is_free(port):
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise Unavailable(
                    f"port {port}, which this lab uses for {name}, is taken by another process",
                    hint=f"end that process, or give {name} another number in {self._path}",
                )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, but: Iterable[int] = (), last: int = LAST) -> list[int]:
    """`count` different ports below `last` on which nothing listens now."""
    taken = set(but)
    found: list[int] = []
    for port in random.sample(range(FIRST, last), last - FIRST):
        if len(found) == count:
            return found
        if port not in taken and is_free(port):
            found.append(port)
    raise Unavailable(f"fewer than {count} free ports between {FIRST} and {last} on {LOOPBACK}")

"""The queue of `tests.support.jobs` for every test here."""

from tests.support.jobs import queue

__all__ = ["queue"]

"""The processes of `tests.support.fleet` for every test here."""

from tests.support.fleet import fleet

__all__ = ["fleet"]

"""One CPU thread: toys are too small for more."""

from tests.clew.training.conftest import one_thread

__all__ = ["one_thread"]

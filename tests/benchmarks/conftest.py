"""One CPU thread, on which runs repeat bit by bit, as for the tests of training."""

from tests.clew.training.conftest import one_thread

__all__ = ["one_thread"]

"""One CPU thread: toys are too small for more."""

from tests.clew.training.conftest import dataset, one_thread

__all__ = ["dataset", "one_thread"]

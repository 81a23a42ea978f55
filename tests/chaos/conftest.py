"""The processes of `tests.support.fleet` for every test here, and disks that are small enough to be filled."""

import pytest
from tests.support import small_disk
from tests.support.fleet import fleet

__all__ = ["fleet"]


@pytest.fixture
def small_disks() -> None:
    """Skips where there can be none."""
    if not small_disk.can_be_made():
        pytest.skip("this user may mount nothing here: run as root, or where users may have namespaces")

"""Which Chromium the browser tests drive."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """`$CHROMIUM`, else the machine's; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def why_left_out() -> str | None:
    """Why the browser tests cannot run here; None where they can, and in CI, where they must."""
    if find_chromium() or os.environ.get("CI"):
        return None
    return "no Chromium: install Debian's `chromium`, or set CHROMIUM to the path of one"


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = find_chromium()
    assert path, "no Chromium on this machine, and CI must run these tests"
    return path

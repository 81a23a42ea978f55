"""Which Chromium the browser tests drive."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # A closed network refuses these, loudly and often.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """`$CHROMIUM`, else the machine's; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Raises FileNotFoundError where there is none."""
    from playwright.sync_api import sync_playwright  # not above: this is imported for every run

    path = find_chromium()
    if path is None:
        raise FileNotFoundError("no Chromium on this machine: install Debian's `chromium`, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def why_left_out() -> str | None:
    """Why the browser tests cannot run here; None where they can, and in CI, where they must."""
    if find_chromium() or os.environ.get("CI"):
        return None
    return "no Chromium: install Debian's `chromium`, or set CHROMIUM to the path of one"


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """One for the whole run; in CI there must be one."""
    with chromium() as browser:
        yield browser

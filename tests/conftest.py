"""Fixtures for everyone, and the order of a run: each test belongs to one group, and groups run one after another."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.support.servers", "tests.support.browser"]

GROUPS = ("science", "lab", "chaos", "browser", "peers")
_HERE = Path(__file__).parent

settings.register_profile("clew", deadline=None)  # a busy machine is no failure
settings.load_profile("clew")


def group_of(item: pytest.Item) -> str:
    """The group named by a marker, else by the folder, else by whether servers are needed."""
    for group in reversed(GROUPS):
        if item.get_closest_marker(group):
            return group
    folder = item.path.relative_to(_HERE).parts[0]
    if folder in GROUPS:
        return folder
    needs_servers = not {"stack", "private_stack"}.isdisjoint(getattr(item, "fixturenames", ()))
    return "science" if folder == "clew" and not needs_servers else "lab"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from tests.support.browser import why_left_out  # not above: pytest imports plugins itself

    left_out = why_left_out()
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        if item.get_closest_marker(group) is None:
            item.add_marker(group)
        if group == "peers" and "peers" not in config.getoption("markexpr"):
            item.add_marker(pytest.mark.skip(reason="installs other projects: `make test-full`, or `-m peers`"))
        if item.get_closest_marker("long") and not {"peers", "long"} & set(config.getoption("markexpr").split()):
            item.add_marker(pytest.mark.skip(reason="takes minutes: `make test-full`, or `-m long`"))
        if group == "browser" and left_out:
            item.add_marker(pytest.mark.skip(reason=left_out))
    items.sort(key=lambda item: GROUPS.index(groups[item]))


class ThreadTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Each test goes to whichever process is free, but the thread's to one: two labs at once would both be too slow."""

    def _split_scope(self, nodeid: str) -> str:
        return "thread" if nodeid.startswith("tests/thread/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ThreadTogether:
    return ThreadTogether(config, log)

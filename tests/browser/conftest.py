"""The dashboard as it was built, served by the real API, in a real Chromium."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from clew_api.__main__ import Server
from clew_api.app import create_app
from clew_lab.catalogue.engine import make_engine, session_factory
from tests.browser.scene import Scene
from tests.support.servers import Lab

DASHBOARD = Path(__file__).parents[2] / "services" / "dashboard"
AXE = DASHBOARD / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 20_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    engine = make_engine(lab.settings.database_url.get_secret_value())
    yield Scene(session_factory(engine), lab.settings, tmp_path)
    engine.dispose()


class Site:
    """The API behind a real server in a thread of this process; it can be stopped and started again on its port."""

    def __init__(self, lab: Lab) -> None:
        self.url = f"http://127.0.0.1:{lab.settings.api_port}"
        self._settings = lab.settings
        self._server: Server | None = None
        self._thread = threading.Thread()

    def start(self) -> None:
        app = create_app(self._settings)
        self._server = server = Server(app, host="127.0.0.1", port=self._settings.api_port, timeout_graceful_shutdown=5)
        self._thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        self._thread.start()
        while not server.started:
            assert self._thread.is_alive(), "the API did not start"
            self._thread.join(0.01)

    def stop(self) -> None:
        if self._server is None:
            return
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the API did not stop"
        self._server = None


@pytest.fixture
def site(make_lab: Callable[..., Lab], scene: Scene) -> Iterator[Site]:
    """The scene's lab and its dashboard."""
    assert (DASHBOARD / "dist" / "index.html").is_file(), "the dashboard is not built: `make dashboard`"
    site = Site(make_lab(dashboard_dir=DASHBOARD / "dist"))
    site.start()
    yield site
    site.stop()


@dataclass
class Tab:
    """A browser tab, and what its console complained of."""

    page: Page
    site: Site
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of complaints that belong to the test."""

    def sign_in(self, key: str, path: str = "/") -> None:
        self.page.goto(self.site.url + path)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("navigation", name="Pages").wait_for()

    def goto(self, path: str) -> None:
        self.page.goto(self.site.url + path)

    def unexpected(self) -> list[str]:
        return [text for text in self.complaints if not any(re.search(pattern, text) for pattern in self.expected)]


def open_tab(browser: Browser, site: Site, scheme: str = "light") -> Tab:
    context = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
    )
    context.set_default_timeout(PATIENCE_MS)
    # Whether there is a session is found out by asking; the browser itself logs the 401.
    tab = Tab(context.new_page(), site, expected=[r"401 \(Unauthorized\).*/api/v1/session"])
    tab.page.on(
        "console",
        lambda message: (
            tab.complaints.append(f"{message.type}: {message.text} {message.location.get('url', '')}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    tab.page.on("pageerror", lambda error: tab.complaints.append(f"uncaught: {error}"))
    return tab


def violations(page: Page) -> list[str]:
    """What axe objects to on the page, once its code has arrived and it has its heading."""
    expect(page.locator("h1")).to_have_count(1)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(result => result.violations)")
    return [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    tab = open_tab(browser, site)
    yield tab
    tab.page.context.close()
    assert tab.unexpected() == []

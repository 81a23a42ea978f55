"""A lab with its dashboard, and a browser to look at it with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page
from tests.browser.scene import Scene
from tests.support.browser import chromium

from benchmarks.bench import ROOT
from benchmarks.queue_lab import QueueLab, queue_lab
from clew_lab.storage import Store

BUILT = ROOT / "services" / "dashboard" / "dist" / "index.html"
SIZE = {"width": 1440, "height": 900}


@dataclass
class DashboardLab:
    queue: QueueLab
    scene: Scene
    browser: Browser

    @contextmanager
    def page(self, key: str, watch: str = "") -> Iterator[Page]:
        """A tab of a browser that has cached nothing, signed in; `watch` is JavaScript that runs before each page's."""
        context = self.browser.new_context(base_url=self.queue.url, viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        try:
            if not context.request.post("/api/v1/session", data={"key": key}).ok:
                raise RuntimeError("signing in failed")
            page = context.new_page()
            if watch:
                page.add_init_script(watch)
            yield page
        finally:
            context.close()


@contextmanager
def dashboard_lab() -> Iterator[DashboardLab]:
    """Real servers, the API as a process, the dashboard as it was built. Raises FileNotFoundError where it was not."""
    if not BUILT.is_file():
        raise FileNotFoundError("the dashboard is not built: `make dashboard`")
    with queue_lab() as lab, lab.api(), chromium() as browser, TemporaryDirectory() as scratch:
        Store.of(lab.settings).create_bucket()
        yield DashboardLab(lab, Scene(lab.sessions, lab.settings, Path(scratch)), browser)

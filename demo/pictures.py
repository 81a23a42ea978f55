"""Take the README's pictures from the lab that `make demo` left running: `.venv/bin/python -m demo.pictures`."""

import json

from playwright.sync_api import Page
from tests.support.browser import chromium

from demo.lab import CREDENTIALS, ROOT

FOLDER = ROOT / "docs" / "pictures"


def main() -> None:
    credentials = json.loads(CREDENTIALS.read_text())
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        page = browser.new_page(
            viewport={"width": 1440, "height": 900}, color_scheme="dark", base_url=credentials["url"]
        )
        answer = page.request.post("/api/v1/session", data={"key": credentials["key"]})
        if not answer.ok:
            raise SystemExit(f"signing in failed: {answer.text()}")
        graph = newest(page, "graphs")
        training = newest(page, "jobs?kind=train")
        take(page, f"/jobs/{training}", "training")
        take(page, f"/graphs/{graph}", "graph")


def newest(page: Page, what: str) -> str:
    items = page.request.get(f"/api/v1/{what}").json()["items"]
    if not items:
        raise SystemExit(f"there are no {what} yet: run `make demo` first")
    return str(items[0]["id"])


def take(page: Page, path: str, name: str) -> None:
    page.goto(path)
    page.locator("main").wait_for()
    page.wait_for_timeout(3000)  # charts and the graph fade in
    page.screenshot(path=FOLDER / f"{name}.png")
    print(f"{name}.png")


if __name__ == "__main__":
    main()

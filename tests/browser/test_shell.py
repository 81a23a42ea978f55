"""What frames every page."""

from playwright.sync_api import expect

from tests.browser.conftest import Tab, violations
from tests.browser.scene import Scene


def test_an_address_that_is_none_says_so_and_leads_on(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/no/such/place")
    page = tab.page
    expect(page.get_by_role("main")).to_contain_text("No such page")
    assert violations(page) == []
    page.get_by_role("link", name="Go to the jobs").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("No jobs yet")
    assert violations(page) == []


def test_a_question_before_it_is_done_is_accessible(tab: Tab, scene: Scene) -> None:
    id = scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab.sign_in(scene.key, f"/jobs/{id}")
    page = tab.page
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("button", name="Yes, cancel")).to_be_visible()
    assert violations(page) == []


def test_the_colours_that_were_chosen_stay(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key)
    page = tab.page
    html = page.locator("html")
    expect(html).to_have_attribute("data-mantine-color-scheme", "light")
    page.get_by_role("button", name="Use dark colours").click()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
    page.reload()
    page.get_by_role("button", name="Use light colours").click()
    expect(html).to_have_attribute("data-mantine-color-scheme", "light")


def test_the_strip_leads_from_a_busy_worker_to_its_job(tab: Tab, scene: Scene) -> None:
    job = scene.start({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab.sign_in(scene.key, "/graphs")
    page = tab.page
    page.get_by_role("button", name="Lab: healthy, 1 of 1 workers busy").click()
    expect(page.get_by_role("dialog")).to_contain_text("database")
    assert violations(page) == []
    page.get_by_role("link", name="busy").click()
    expect(page).to_have_url(f"{tab.site.url}/jobs/{job.id}")
    page.keyboard.press("Escape")
    page.get_by_role("banner").get_by_role("button", name="main").click()
    expect(page.get_by_role("menuitem", name="Sign out")).to_be_visible()
    assert violations(page) == []


VISIBILITY = """
let hidden = %s;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.turn = (to) => { hidden = to; document.dispatchEvent(new Event("visibilitychange")); };
"""
"""A page without a window is never hidden, so it is told whether it is."""


def test_tabs_that_nobody_sees_leave_the_connections_to_the_one_that_is_seen(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key)
    # Browsers have six connections for all of them. Some are opened out of sight, some are left.
    others = [tab.page.context.new_page() for _ in range(8)]
    for number, page in enumerate(others):
        page.add_init_script(VISIBILITY % ("true" if number % 2 else "false"))
        page.goto(tab.site.url)
        expect(page.get_by_role("main")).to_contain_text("No jobs yet")
        page.evaluate("turn(true)")
    tab.page.reload()
    expect(tab.page.get_by_role("main")).to_contain_text("No jobs yet")
    scene.queue({"kind": "import-model", "name": "meanwhile", "path": "/models/m"})
    expect(tab.page.get_by_role("link", name="meanwhile")).to_be_visible()
    for page in others[:2]:
        expect(page.get_by_role("link", name="meanwhile")).to_be_hidden()
        page.evaluate("turn(false)")
        expect(page.get_by_role("link", name="meanwhile")).to_be_visible()

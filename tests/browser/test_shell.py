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

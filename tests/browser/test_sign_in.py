from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.scene import Scene


def test_a_key_opens_the_page_one_wanted_and_no_script_can_read_it(tab: Tab, scene: Scene) -> None:
    page = tab.page
    tab.goto("/coders")
    key = page.get_by_label("API key")
    key.fill("clew_of_another_lab")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("A valid API key is required")
    assert scene.key not in page.content()

    key.fill(scene.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Coders", exact=True)).to_be_visible()
    assert page.url.endswith("/coders")
    assert page.evaluate("document.cookie") == ""
    assert scene.key not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")

    page.reload()
    expect(page.get_by_role("heading", name="Coders", exact=True)).to_be_visible()

    page.get_by_role("button", name="main").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    tab.goto("/")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_redirect_after_sign_in_stays_on_this_site(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/sign-in?next=%2F%2Fexample.org%2F")
    assert tab.page.url == tab.site.url + "/"


def test_an_empty_lab_says_what_to_do(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key)
    for path, words in {
        "/": "clew submit",
        "/models": "clew submit import-model",
        "/datasets": "clew submit build-dataset",
        "/coders": "clew submit",
        "/graphs": "clew submit",
    }.items():
        tab.goto(path)
        expect(tab.page.get_by_role("main")).to_contain_text(words)

"""Who may do what, and who gets how much of the lab."""

import re

from playwright.sync_api import Page, expect

from clew_lab.jobs import standing
from tests.browser.conftest import Tab
from tests.browser.scene import Scene

PASSWORD = "a thread through the maze"


def fill(page: Page, form: str, **fields: str) -> None:
    at = page.get_by_role("form", name=form)
    for label, value in fields.items():
        at.locator(f'[data-pointer="/{label}"]').fill(value)
    at.get_by_role("button", name=form).click()


def open_forms(page: Page) -> None:
    for summary in ("New key", "Add a member", "New project", "New person"):
        page.locator("summary", has_text=summary).click()


def test_a_person_is_made_joins_and_signs_in_by_password(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/people")
    page = tab.page
    tab.expected += ["409", "422"]
    open_forms(page)
    fill(page, "Create person", name="ada", display_name="Ada L.", password=PASSWORD)
    expect(page.get_by_role("table", name="People of the lab")).to_contain_text("Ada L.")
    form = page.get_by_role("form", name="Create person")
    expect(form.locator('[data-pointer="/name"]')).to_have_value("")
    fill(page, "Create person", name="ada")
    expect(form.get_by_role("alert").or_(form.locator('[id$="-error"]')).first).to_contain_text("ada")

    page.get_by_role("form", name="Add member").locator('[data-pointer="/role"]').select_option("member")
    fill(page, "Add member", user="ada")
    members = page.get_by_role("table", name="Members")
    expect(members).to_contain_text("Ada L.")
    fill(page, "Create project", name="second", admin="ada")
    expect(page.get_by_role("table", name="Projects")).to_contain_text("second")
    page.get_by_label("Role of Ada L.").select_option("viewer")

    page.get_by_role("button", name="main", exact=True).click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_role("button", name="Use a name and a password").click()
    page.get_by_label("Name", exact=True).fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for()

    account = page.get_by_role("banner").get_by_role("button", name=re.compile("^(main|second)$"))
    for project, role in (("second", "admin"), ("main", "viewer")):
        if account.inner_text() != project:
            account.click()
            page.get_by_role("menuitem", name=f"Act in {project}").click()
            expect(account).to_have_text(project)
        tab.goto("/people")
        expect(page.get_by_role("heading", name=f"People and keys of {project}")).to_be_visible()
        expect(page.get_by_role("main")).to_contain_text(f"You are Ada L., {role}")
        expect(page.get_by_role("table", name="People of the lab")).to_be_hidden()
    # A viewer gives no roles.
    expect(members).to_contain_text("viewer")
    expect(page.get_by_label("Role of Ada L.")).to_be_hidden()


def test_who_is_disabled_or_removed_is_out_at_once_and_a_password_is_ones_own(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/people")
    page = tab.page
    open_forms(page)
    fill(page, "Create person", name="ada", display_name="Ada L.", password=PASSWORD)
    expect(page.get_by_role("table", name="People of the lab")).to_contain_text("Ada L.")
    page.get_by_role("form", name="Add member").locator('[data-pointer="/role"]').select_option("member")
    fill(page, "Add member", user="ada")
    members = page.get_by_role("table", name="Members")
    expect(members).to_contain_text("Ada L.")

    hers = page.context.browser.new_context()  # type: ignore[union-attr]  # it was launched, not connected to
    other = hers.new_page()
    came_in: list[str] = []

    def sign_in(password: str) -> None:
        other.goto(tab.site.url)
        if not came_in:  # the page knows from then on how one signs in
            other.get_by_role("button", name="Use a name and a password").click()
        came_in.append(password)
        other.get_by_label("Name", exact=True).fill("ada")
        other.get_by_label("Password", exact=True).fill(password)
        other.get_by_role("button", name="Sign in").click()

    sign_in(PASSWORD)
    other.get_by_role("link", name="People").click()
    other.locator("summary", has_text="Change it").click()
    fill(other, "Change password", password=PASSWORD, new_password=f"{PASSWORD}, again")
    expect(other.get_by_role("main")).to_contain_text("It is changed")

    page.get_by_role("button", name="Disable Ada L.").click()
    page.get_by_role("button", name="Yes, disable").click()
    expect(page.get_by_role("button", name="Enable Ada L.")).to_be_visible()
    sign_in(f"{PASSWORD}, again")
    expect(other.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="Enable Ada L.").click()
    page.get_by_role("button", name="Yes, enable").click()
    expect(page.get_by_role("button", name="Disable Ada L.")).to_be_visible()
    sign_in(PASSWORD)
    expect(other.get_by_role("alert")).to_be_visible()
    sign_in(f"{PASSWORD}, again")
    expect(other.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()

    page.get_by_role("button", name="Remove Ada L.").click()
    page.get_by_role("button", name="Yes, remove").click()
    expect(members).not_to_contain_text("Ada L.")
    other.goto(f"{tab.site.url}/people")
    expect(other.get_by_role("main")).to_contain_text("You are in no project yet")
    hers.close()


def test_a_project_s_weight_and_quotas_are_changed_and_lifted(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/people")
    page = tab.page
    projects = page.get_by_role("table", name="Projects")
    form = page.get_by_role("form", name="Save main")

    def change(**fields: str) -> None:
        page.get_by_role("button", name="Change main").click()
        fill(page, "Save main", **fields)

    change(max_in_flight="3", max_stored_bytes=str(2**30))
    row = projects.get_by_role("row", name=re.compile("^main"))
    expect(row).to_contain_text("1.0 GiB")
    expect(form).to_be_hidden()
    page.get_by_role("button", name="Change main").click()
    expect(form.locator('[data-pointer="/max_in_flight"]')).to_have_value("3")
    fill(page, "Save main", max_in_flight="-1")
    expect(form).to_contain_text("It must be from 0")
    fill(page, "Save main", weight="2", max_in_flight="")
    expect(row).to_contain_text(re.compile("main2–1.0 GiB"))
    tab.goto("/lab")
    expect(page.get_by_role("table", name="Shares")).to_contain_text("of 1.0 GiB")


def test_a_key_is_shown_once_changed_and_revoked(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/people")
    page = tab.page
    open_forms(page)
    form = page.get_by_role("form", name="Create key")
    form.get_by_label("job:read").check()
    form.get_by_label("record:read").check()
    fill(page, "Create key", name="nightly")
    shown = page.get_by_role("status", name="The new key")
    first = shown.locator("code").inner_text()
    assert first.startswith("clew_")
    keys = page.get_by_role("table", name="Keys")
    expect(keys).to_contain_text(f"…{first[-4:]}")
    expect(keys).to_contain_text("job:read, record:read")

    def opens(key: str) -> int:
        return page.request.get(f"{tab.site.url}/api/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status

    assert opens(first) == 200
    page.get_by_role("button", name="Rotate nightly").click()
    page.get_by_role("button", name="Yes, rotate").click()
    expect(shown.locator("code")).not_to_have_text(first)
    second = shown.locator("code").inner_text()
    assert (opens(first), opens(second)) == (401, 200)
    page.reload()
    expect(keys).to_contain_text("nightly")
    assert second not in page.content()

    page.get_by_role("button", name="Revoke nightly").click()
    page.get_by_role("button", name="Yes, revoke").click()
    expect(keys).to_contain_text("revoked")
    assert opens(second) == 401


def test_a_waiting_job_tells_where_it_stands_and_the_lab_who_gets_what(tab: Tab, scene: Scene) -> None:
    first = scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    second = scene.queue({"kind": "import-model", "name": "n", "path": "/models/n"})
    with scene.sessions.begin() as session:
        standing.look(session, alive_s=30)
    tab.sign_in(scene.key)
    page = tab.page
    row = page.locator(f'tr[data-id="{first}"]')
    expect(row).to_contain_text("1st in line")
    expect(row).to_contain_text("No worker of the pool train is there")
    tab.goto(f"/jobs/{second}")
    expect(page.get_by_role("main")).to_contain_text("2nd in line")
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"As the scheduler saw it (just now|\d+s ago)"))

    tab.goto("/lab")
    shares = page.get_by_role("table", name="Shares")
    expect(shares.get_by_role("row", name=re.compile("^main"))).to_contain_text("100%")
    expect(shares.get_by_role("img", name=re.compile("its share is 100"))).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("No worker is alive")
    scene.take(first, "import-model")
    page.reload()
    expect(page.get_by_role("table", name="Workers")).to_contain_text("8.0 GiB")
    expect(page.get_by_role("table", name="Workers").get_by_role("link", name="a job")).to_be_visible()

"""Files go from the browser to the object store, and from there into the form of a job."""

import json
from pathlib import Path

from playwright.sync_api import Route, expect

from clew_spec.uploads import MIN_PART
from tests.browser.conftest import Tab
from tests.browser.scene import Scene


def test_a_folder_is_sent_and_named_in_a_job(tab: Tab, scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "Field Notes"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").write_text("not this")
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    (folder / "sub" / "b.jsonl").write_text("")
    tab.sign_in(scene.key, "/uploads")
    page = tab.page
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible()
    page.get_by_label("Folder", exact=True).set_input_files(folder)
    expect(page.get_by_label("Name")).to_have_value("field-notes")
    page.get_by_label("Name").fill("Field notes")
    expect(page.get_by_role("button", name="Upload 2 files")).to_be_disabled()
    page.get_by_label("Name").fill("notes")
    page.get_by_role("button", name="Upload 2 files").click()
    row = page.get_by_role("table", name="Uploads").get_by_role("row", name="notes")
    expect(row).to_contain_text("complete")
    row.get_by_role("button", name="Use notes").click()
    page.get_by_role("menuitem", name="Build a dataset").click()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    [upload] = scene.uploads()
    assert upload.files == {"a.jsonl": b'{"text": "a"}\n', "sub/b.jsonl": b""}
    expect(page.locator('[data-pointer="/spec/source/path"]')).to_have_value(f"upload:{upload.id}")
    # The reader's next form knows it by name.
    page.goto(f"{tab.site.url}/submit?kind=import-model")
    expect(page.locator("datalist option[value='upload:notes']")).to_be_attached()
    tab.goto("/uploads")
    page.get_by_role("button", name="Remove notes").click()
    page.get_by_role("button", name="Yes, remove").click()
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible()


def test_what_was_cut_off_goes_on_with_the_parts_that_are_there(tab: Tab, scene: Scene, tmp_path: Path) -> None:
    big = tmp_path / "big.txt"
    content = b"line\n" * (MIN_PART // 4)
    big.write_bytes(content)
    assert 1 < len(content) / MIN_PART < 2
    sent: list[int] = []
    refusing = True

    def part(route: Route) -> None:
        size = int(route.request.headers.get("content-length", 0) or len(route.request.post_data_buffer or b""))
        if route.request.method == "PUT" and refusing and "partNumber=2" in route.request.url:
            route.fulfill(status=400, headers={"Access-Control-Allow-Origin": "*"})
            return
        sent.append(size)
        route.continue_()

    page = tab.page
    tab.expected += ["400"]
    page.route(lambda url: "partNumber=" in url, part)
    tab.sign_in(scene.key, "/uploads")
    page.get_by_label("Files", exact=True).set_input_files(big)
    page.get_by_role("button", name="Upload big.txt").click()
    mine = page.get_by_role("listitem", name="big")
    expect(mine.get_by_role("alert")).to_contain_text("Part 2 of big.txt was not taken")
    before, refusing = len(sent), False
    # It goes on while its reader is elsewhere, and says so.
    mine.get_by_role("button", name="Go on").click()
    page.get_by_role("link", name="Graphs").click()
    page.get_by_role("link", name="Uploads").click()
    expect(mine.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    expect(mine).to_contain_text("sent")
    expect(page.get_by_role("table", name="Uploads").get_by_role("row", name="big")).to_contain_text("complete")
    assert len(sent) == before + 1, "the part that was there was sent again"
    [upload] = scene.uploads()
    assert upload.files == {"big.txt": content}
    mine.get_by_role("button", name="Clear").click()
    expect(mine).to_have_count(0)


def test_who_may_only_look_is_offered_nothing_to_send(tab: Tab, scene: Scene) -> None:
    tab.sign_in(scene.key, "/uploads")
    page = tab.page
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    page.route(
        "**/api/v1/session",
        lambda route: route.fulfill(json={**json.loads(route.fetch().text()), "permissions": ["record:read"]}),
    )
    page.reload()
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible()
    expect(page.get_by_role("button", name="Choose files")).to_have_count(0)

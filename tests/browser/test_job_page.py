"""The page of a job: its curves, its log, where it came from, asking for the same, stopping it."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Tab, open_tab
from tests.browser.scene import Running, Scene
from tests.browser.written import read


def training(scene: Scene, layers: int = 2) -> Running:
    model = scene.model()
    return scene.training(model, scene.dataset(model), layers=layers)


def drag_across(page: Page, chart: Locator, start: float, end: float) -> None:
    """Over the middle of the plot, by shares of its width."""
    box = chart.locator(".u-over").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


def test_how_charts_are_drawn_is_kept_in_the_url(tab: Tab, scene: Scene) -> None:
    job = training(scene)
    for step in range(0, 205, 5):
        job.metric(step, {"L00/fvu": 2 / (step + 1), "L01/fvu": 1.5, "L00/heldout_fvu": 1.0})
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    fvu = page.locator('[data-metric="fvu"]')
    expect(fvu.locator(".u-legend")).to_contain_text("step 200", use_inner_text=True)

    page.get_by_label("log scale").check()
    page.get_by_role("slider", name="smoothing").fill("0.9")
    drag_across(page, fvu, 0.25, 0.5)
    expect(page).to_have_url(re.compile(r"zoom=[\d.]+\.\.[\d.]+"))
    zoom = re.search(r"zoom=([\d.]+)\.\.([\d.]+)", page.url)
    assert zoom
    assert [float(end) for end in zoom.groups()] == pytest.approx([50, 100], abs=2)
    expect(page).to_have_url(re.compile(r"y=log"))
    page.reload()
    expect(page.get_by_role("button", name="Whole range")).to_be_visible()
    expect(page.get_by_label("log scale")).to_be_checked()
    expect(page.get_by_role("slider", name="smoothing")).to_have_value("0.9")
    # The smoothed mean of a falling curve lies above it, and of a constant on it.
    legend = fvu.locator(".u-legend")
    expect(legend).to_contain_text("L1 1.500", use_inner_text=True)
    assert float(legend.inner_text().split("L0")[1].split()[0]) > 2 / 201

    job.metric(205, {"L00/fvu": 0.5})
    expect(legend).to_contain_text("step 205", use_inner_text=True)
    expect(page.get_by_role("button", name="Whole range")).to_be_visible()
    page.get_by_role("button", name="Whole range").click()
    expect(page).not_to_have_url(re.compile("zoom"))

    page.get_by_text("time", exact=True).click()
    expect(page).to_have_url(re.compile(r"x=time"))
    expect(legend).to_contain_text(re.compile(r"time\s+\d+s"), use_inner_text=True)


def test_the_log_is_searched_followed_and_read_from_its_start(tab: Tab, scene: Scene) -> None:
    job = training(scene, layers=1)
    for batch in range(12):
        job.tell(*(("log", {"level": "info", "message": f"line {100 * batch + n}"}) for n in range(100)))
    job.log("the disk is nearly full", "warning")
    job.log("Something broke", "error")
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    log, lines = page.get_by_role("log"), page.locator('[role="log"] [data-index]')
    expect(log).to_contain_text("Something broke")
    assert lines.count() < 100
    region = page.get_by_role("region", name="Log")
    expect(region).to_contain_text("the latest")
    expect(region).to_contain_text("Earlier lines are not loaded")

    log.evaluate("log => log.scrollTo(0, 1000)")
    expect(page.get_by_role("button", name="Follow", exact=True)).to_be_visible()
    job.log("one more")
    expect(region).to_contain_text(re.compile("1,00. lines"))
    expect(log).not_to_contain_text("one more")
    page.get_by_role("button", name="Follow", exact=True).click()
    expect(log).to_contain_text("one more")

    page.get_by_role("button", name="From the start").click()
    expect(region).to_contain_text(re.compile(r"1,20\d lines"))
    expect(region).not_to_contain_text("Earlier lines are not loaded")
    expect(log).to_contain_text("line 0")
    search = page.get_by_label("Search the log")
    search.fill("LINE 7")
    expect(region).to_contain_text(re.compile(r"111 of 1,20\d lines"))
    expect(log.locator("mark").first).to_have_text("line 7")
    search.fill("")
    page.get_by_label("Level").select_option("warning")
    expect(lines).to_have_count(2)
    with page.expect_download() as download:
        region.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "first.log"
    assert [line.split(" ", 1)[1] for line in download.value.path().read_text().splitlines()] == [
        "warning the disk is nearly full",
        "error Something broke",
    ]
    page.get_by_label("Level").select_option("debug")
    page.get_by_role("button", name="First error").click()
    expect(log).to_contain_text("Something broke")


def test_what_was_logged_early_is_seen_behind_hours_of_progress(tab: Tab, scene: Scene) -> None:
    job = training(scene, layers=1)
    job.log("the learning rate is high", "warning")
    fields = {"phase": "train", "total": 9000, "unit": "steps", "rate": 1.0, "eta_s": None}
    job.tell(*(("progress", {**fields, "done": n}) for n in range(2500)))
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    log = page.get_by_role("log")
    expect(log).to_contain_text("the learning rate is high")
    job.log("it broke", "error")
    job.tell(*(("log", {"level": "info", "message": f"line {n}"}) for n in range(1500)))
    # Told by the stream, or by the lab to who comes later and has only the last of it.
    expect(page.get_by_role("region", name="Log")).to_contain_text(re.compile(r"1,50\d lines"))
    page.reload()
    expect(page.get_by_role("region", name="Log")).to_contain_text("1,000 lines, the latest")
    expect(log).not_to_contain_text("it broke")
    page.get_by_role("button", name="First error").click()
    expect(log).to_contain_text("it broke")
    expect(page.get_by_role("region", name="Log")).to_contain_text(re.compile(r"1,50\d lines"))
    page.get_by_label("Level").select_option("warning")
    expect(page.locator('[role="log"] [data-index]')).to_have_count(2)


def test_a_page_misses_nothing_of_a_job_while_the_api_is_away(tab: Tab, scene: Scene) -> None:
    tab.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "503"]
    job = training(scene, layers=1)

    def tell(first: int, last: int) -> None:
        for step in range(first, last):
            job.metric(step, {"L00/fvu": 0.5 + step / 1000})
            job.log(f"at step {step:02}")

    tell(0, 5)
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    log = page.get_by_role("log")
    legend = page.locator('[data-metric="fvu"] .u-legend')
    expect(log).to_contain_text("at step 04")
    tell(5, 10)
    expect(log).to_contain_text("at step 09")
    tab.site.stop()
    expect(page.get_by_text("reconnecting")).to_be_visible()
    tell(10, 15)
    expect(log).not_to_contain_text("at step 10")
    tab.site.start()
    expect(log).to_contain_text("at step 14")
    tell(15, 20)
    expect(legend).to_contain_text("step 19 L0 0.519", use_inner_text=True)
    expect(log).to_contain_text("at step 19")
    assert re.findall(r"at step (\d\d)", log.inner_text()) == [f"{step:02}" for step in range(20)]
    chart = page.locator('[data-metric="fvu"] .u-over').bounding_box()
    assert chart
    for step in range(20):
        page.mouse.move(chart["x"] + chart["width"] * step / 19, chart["y"] + 9)
        expect(legend).to_contain_text(f"step {step} L0 {0.5 + step / 1000:.3f}", use_inner_text=True)


def test_a_job_tells_what_it_was_made_from(tab: Tab, scene: Scene) -> None:
    job = training(scene)
    coders = scene.trained(job, layers=2)
    evaluation = scene.evaluate(coders)
    tab.sign_in(scene.key, f"/jobs/{evaluation.id}")
    made_from = tab.page.get_by_role("region", name="Made from")
    expect(made_from).to_contain_text("first 2 layers")
    made_from.get_by_role("link", name="first", exact=True).click()
    expect(tab.page).to_have_url(re.compile(str(job.id)))
    expect(made_from.get_by_role("link")).to_have_text(["smollm2", "pydoc"])


def test_a_job_is_asked_for_again_from_elsewhere(tab: Tab, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    job = training(scene)
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    spec = page.request.get(f"{tab.site.url}/api/v1/jobs/{job.id}").json()["spec"]
    for language in ("CLI", "Python", "curl"):
        page.get_by_role("radiogroup", name="Written as").get_by_text(language, exact=True).click()
        text = page.get_by_role("region", name=f"As {language}").locator("pre").inner_text()
        assert read(language, text, monkeypatch).spec.model_dump(mode="json") == spec


def test_a_job_is_cancelled_when_one_has_said_yes(tab: Tab, scene: Scene) -> None:
    id = scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab.sign_in(scene.key, f"/jobs/{id}")
    page = tab.page
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="No", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("queued")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Yes, cancel").click()
    expect(page.get_by_role("main")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()


def test_what_is_zoomed_in_to_is_shown_step_by_step(tab: Tab, scene: Scene) -> None:
    """A curve of thousands of points is thinned; a part of it is not."""
    job = training(scene, layers=1)
    job.tell(metrics=[(step, {"loss": float(step)}) for step in range(9001)])
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    chart = page.locator('[data-metric="loss"]')
    expect(chart.locator(".u-legend")).to_contain_text("step 9000", use_inner_text=True)
    with page.expect_response(lambda answer: "first_step=" in answer.url) as closer:
        drag_across(page, chart, 0.5, 0.51)
    [series] = closer.value.json()
    first, last = series["steps"][0], series["steps"][-1]
    assert series["steps"] == list(range(first, last + 1))
    assert 0 < last - first < 200
    plot = chart.locator(".u-over").bounding_box()
    assert plot
    seen = set()
    for at in range(20, 60):
        page.mouse.move(plot["x"] + at / 80 * plot["width"], plot["y"] + 20)
        legend = chart.locator(".u-legend").inner_text()
        seen.add(int(legend.split("step")[1].split()[0]))
    assert len(seen) > 30, "neighbouring steps are not told apart"


def test_a_job_is_shared_and_kept_again_as_others_look(tab: Tab, scene: Scene, browser: Browser) -> None:
    model = scene.model()
    coders = scene.trained(training := scene.training(model, scene.dataset(model), layers=1), layers=1)
    tab.sign_in(scene.key, f"/jobs/{training.id}")
    guest = open_tab(browser, tab.site)
    guest.sign_in(scene.key_of_another_project())
    expect(guest.page.get_by_role("main")).to_contain_text("No jobs yet")

    page = tab.page
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_role("checkbox", name="So with what it was made of").check()
    page.get_by_role("button", name="Yes, share").click()
    about = page.get_by_role("region", name="About")
    expect(about).to_contain_text("seen by the lab")
    # By the stream, without being asked for.
    row = guest.page.get_by_role("table", name="Jobs").get_by_role("row", name="train")
    expect(row).to_contain_text("of main")
    row.get_by_role("link", name="first").click()
    expect(guest.page.get_by_role("link", name="Clone")).to_be_visible()
    expect(guest.page.get_by_role("button", name="Share")).to_be_hidden()
    guest.goto(f"/coders/{coders[0]}")
    expect(guest.page.get_by_role("main")).to_contain_text("seen by the lab")
    guest.goto("/models")
    expect(guest.page.get_by_role("table", name="Models")).to_contain_text("smollm2")

    page.get_by_role("button", name="Keep to the project").click()
    page.get_by_role("button", name="Yes, keep to the project").click()
    expect(about).to_contain_text("seen by the project")
    guest.expected.append("404")
    guest.goto(f"/jobs/{training.id}")
    expect(guest.page.get_by_role("main")).to_contain_text("no job")
    guest.page.context.close()
    assert guest.unexpected() == []

import re
from uuid import UUID

from playwright.sync_api import Locator, Page, expect

from clew_spec.errors import Problem
from tests.browser.conftest import Tab
from tests.browser.scene import Scene

OOPS = Problem(
    type="urn:clew:data-error",
    title="The dataset cannot be used",
    status=422,
    detail="the package 'nope' is not installed beside the worker",
    where="/spec/source/packages/0",
    hint="Install it in the worker's environment.",
)


def row(page: Page, id: object) -> Locator:
    return page.locator(f'tr[data-id="{id}"]')


def row_of(page: Page, name: str) -> Locator:
    return page.get_by_role("link", name=name, exact=True)


def test_the_list_follows_a_job_without_a_reload(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    tab.sign_in(scene.key)
    page = tab.page
    expect(page.get_by_role("table", name="Jobs").locator("tbody tr")).to_have_count(1)

    id = scene.queue({"kind": "build-dataset", "name": "text", "model": str(model)}, {"model": str(model)})
    mine = row(page, id)
    expect(mine).to_contain_text("queued")

    job = scene.take(id, "build-dataset")
    expect(mine).to_contain_text("running")
    job.progress("pack", 30, 120, "documents", rate=15)
    expect(mine.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(mine).to_contain_text("15 documents/s")
    expect(mine).to_contain_text("6s left")
    job.progress("pack", 90, 120, "documents", rate=15)
    expect(mine.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "75")

    job.fail(OOPS)
    expect(mine).to_contain_text("failed")
    expect(mine).to_contain_text(OOPS.detail)


def test_filters_live_in_the_url_and_pages_are_loaded_on_demand(tab: Tab, scene: Scene) -> None:
    for number in range(60):
        scene.queue({"kind": "import-model", "name": f"m{number}", "path": "/models/m"})
    last = scene.queue({"kind": "evaluate", "coders": "set"})
    tab.sign_in(scene.key)
    page = tab.page
    table = page.get_by_role("table", name="Jobs")
    rows = table.locator("tbody tr[data-id]")
    expect(table).to_have_attribute("aria-rowcount", "51")
    assert rows.count() < 50
    page.get_by_role("main").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(table).to_have_attribute("aria-rowcount", "62")
    page.get_by_role("main").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(page.get_by_role("link", name="m0", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Load more")).to_be_hidden()

    page.get_by_role("button", name="evaluate").click()
    expect(rows).to_have_count(1)
    expect(row(page, last)).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?kind=evaluate$"))
    page.reload()
    expect(page.get_by_role("button", name="evaluate")).to_have_attribute("aria-pressed", "true")
    expect(rows).to_have_count(1)

    page.get_by_role("button", name="failed").click()
    expect(page.get_by_role("main")).to_contain_text("No job matches these filters")


def test_whose_a_job_is_is_shown_and_chosen_by(tab: Tab, scene: Scene) -> None:
    mine = scene.queue({"kind": "import-model", "name": "mine", "path": "/models/m"})
    hers = scene.of_another("ada").queue({"kind": "import-model", "name": "hers", "path": "/models/m"})
    tab.sign_in(scene.key)
    page = tab.page
    expect(row(page, mine)).to_contain_text("admin")
    expect(row(page, hers)).to_contain_text("ada")

    page.get_by_role("button", name="Mine").click()
    expect(page).to_have_url(re.compile(r"\?user=me$"))
    expect(row(page, hers)).to_be_hidden()
    page.reload()
    expect(page.get_by_role("button", name="Mine")).to_have_attribute("aria-pressed", "true")
    scene.of_another("bob").queue({"kind": "import-model", "name": "his", "path": "/models/m"})
    next_of_mine = scene.queue({"kind": "import-model", "name": "mine-too", "path": "/models/m"})
    expect(row(page, next_of_mine)).to_be_visible()
    expect(page.locator("tbody tr[data-id]")).to_have_count(2)

    page.get_by_role("button", name="Mine").click()
    row(page, hers).get_by_role("link", name="ada").click()
    expect(page).to_have_url(re.compile(r"\?user=ada$"))
    expect(page.locator("tbody tr[data-id]")).to_have_count(1)
    row_of(page, "hers").click()
    expect(page.get_by_role("main")).to_contain_text(re.compile("submitted by\\s*ada"))


def test_a_view_is_saved_under_a_name(tab: Tab, scene: Scene) -> None:
    scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab.sign_in(scene.key, "/?state=failed&kind=train")
    page = tab.page
    page.get_by_role("button", name="Save this view").click()
    page.get_by_label("Name of the view").fill("what broke")
    page.keyboard.press("Enter")
    tab.goto("/")
    expect(row_of(page, "m")).to_be_visible()
    page.get_by_role("link", name="what broke").click()
    expect(page).to_have_url(re.compile(r"state=failed&kind=train|kind=train&state=failed"))
    expect(page.get_by_role("button", name="failed")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Forget what broke").click()
    expect(page.get_by_role("link", name="what broke")).to_be_hidden()

    batch = UUID(int=1)
    tab.expected += [r"404 \(Not Found\)"]
    tab.goto(f"/?batch={batch}")
    page.get_by_role("button", name="Save this view").click()
    page.get_by_label("Name of the view").fill("a sweep")
    page.keyboard.press("Enter")
    tab.goto("/")
    page.get_by_role("link", name="a sweep").click()
    expect(page).to_have_url(re.compile(str(batch)))


def test_many_jobs_are_cancelled_and_run_again_at_once(tab: Tab, scene: Scene) -> None:
    # Such a folder is not one that the lab imports from, so the lab refuses to make them again.
    tab.expected += ["422"]
    model = scene.model()
    for number in range(3):
        scene.queue({"kind": "import-model", "name": f"m{number}", "path": "/models/m"})
    dataset = scene.queue({"kind": "build-dataset", "name": "text", "model": str(model)}, {"model": str(model)})
    tab.sign_in(scene.key, "/?state=queued")
    page = tab.page
    bulk = page.get_by_role("toolbar", name="Chosen jobs")
    page.get_by_role("checkbox", name="Choose all").check()
    expect(bulk).to_contain_text("4 chosen")
    bulk.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Yes, cancel").click()
    expect(bulk).to_contain_text("4 cancelled")
    expect(page.get_by_role("main")).to_contain_text("No job matches these filters")

    tab.goto("/?state=cancelled")
    page.get_by_role("checkbox", name="Choose all").check()
    bulk.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Yes, run again").click()
    expect(bulk).to_contain_text("1 submitted again. 3 not:")
    page.get_by_role("checkbox", name="Choose all").check()
    bulk.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Yes, retry").click()
    expect(bulk).to_contain_text("4 tried again.")
    tab.goto("/?state=queued&kind=import-model")
    expect(page.locator("tbody tr[data-id]")).to_have_count(3)
    page.locator("tbody tr[data-id] a").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_contain_text("tries again")
    tab.goto("/?state=queued&kind=build-dataset")
    again = page.locator("tbody tr[data-id]")
    expect(again).to_have_count(2)
    again = again.last
    expect(again).to_contain_text("text")
    expect(again).not_to_have_attribute("data-id", str(dataset))


def test_the_page_says_that_the_lab_is_away_and_catches_up(tab: Tab, scene: Scene) -> None:
    tab.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "503"]
    id = scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab.sign_in(scene.key)
    mine = row(tab.page, id)
    expect(mine).to_contain_text("queued")

    tab.site.stop()
    expect(tab.page.get_by_text("reconnecting")).to_be_visible()
    expect(mine).to_contain_text("queued")
    job = scene.take(id, "import-model")
    tab.site.start()
    expect(mine).to_contain_text("running")
    expect(tab.page.get_by_text("reconnecting")).to_be_hidden()
    job.fail(OOPS)
    expect(mine).to_contain_text("failed")


def test_a_job_shows_its_charts_and_its_log_as_they_grow(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    job = scene.training(model, scene.dataset(model), layers=2)
    job.metric(0, {"L00/fvu": 1.25, "L01/fvu": 1.5, "L00/heldout_fvu": 1.125, "L01/heldout_fvu": 1.375})
    job.log("reading 2 layers in one stream")
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    fvu = page.locator('[data-metric="fvu"]')
    expect(page.locator("[data-metric]")).to_have_count(2)
    expect(fvu.locator(".u-legend")).to_contain_text("L0 1.250 L1 1.500", use_inner_text=True)
    log = page.get_by_role("log")
    expect(log).to_contain_text("reading 2 layers in one stream")

    for step in range(5, 55, 5):
        job.metric(step, {"L00/fvu": 1 / step, "L01/fvu": 2 / step})
    job.progress("train", 50, 200, "steps", rate=2)
    job.log("half of a half", "warning")
    expect(fvu.locator(".u-legend")).to_contain_text("step 50 L0 0.020 L1 0.040", use_inner_text=True)
    bar = page.get_by_role("main").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "25")
    expect(page.get_by_role("main")).to_contain_text("50 of 200 steps")
    expect(page.get_by_role("main")).to_contain_text("1m 15s left")
    expect(log).to_contain_text("half of a half")
    assert inked(page, '[data-metric="fvu"] canvas') > 200

    scene.trained(job, layers=2)
    expect(page.get_by_role("region", name="Artifacts")).to_contain_text("coders/L01/weights.safetensors")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download coders/L01/weights.safetensors").click()
    assert download.value.path().read_bytes() == bytes([1]) * 5000
    page.get_by_role("link", name="Open the coders").click()
    expect(page.get_by_role("table", name="Coders")).to_contain_text("1.010 → 0.325")


def test_a_lost_attempt_is_told_and_the_next_goes_on(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    job = scene.training(model, scene.dataset(model), layers=1)
    job.metric(0, {"L00/fvu": 1.0})
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    legend = page.locator('[data-metric="fvu"] .u-legend')
    expect(legend).to_contain_text("L0 1.000", use_inner_text=True)
    job.metric(90, {"L00/fvu": 0.125})
    expect(legend).to_contain_text("step 90 L0 0.125", use_inner_text=True)

    job.lose(Problem(type="urn:clew:lost", title="Lost", status=503, detail="no beat for 60 s"))
    attempts = page.get_by_role("region", name="Attempts")
    expect(attempts).to_contain_text("no beat for 60 s")
    again = scene.take(job.id, "train")
    again.metric(5, {"L00/fvu": 0.5})
    expect(attempts.get_by_role("listitem")).to_have_count(2)
    expect(legend).to_contain_text("step 5 L0 0.500", use_inner_text=True)


def test_a_failed_job_shows_the_whole_problem(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    job = scene.start({"kind": "build-dataset", "name": "text", "model": str(model)}, {"model": str(model)})
    job.fail(OOPS)
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    alert = tab.page.get_by_role("alert")
    for part in (OOPS.title, OOPS.detail, OOPS.where, OOPS.hint):
        expect(alert).to_contain_text(str(part))


def test_an_evaluation_shows_each_coder_and_all_at_once(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    coders = scene.trained(scene.training(model, scene.dataset(model), layers=2), layers=2)
    job = scene.evaluate(coders)
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    table = tab.page.get_by_role("table", name="Evaluation")
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("0 0.310 31.4 3.020 88.0% 0.117", use_inner_text=True)
    expect(rows.last).to_contain_text("79.7% 1.430 52.2%", use_inner_text=True)
    expect(table.get_by_role("img", name="Of 2,304 features 120 were never active")).to_have_count(1)
    expect(table.get_by_title("95 % interval over rows: 1.310 to 1.550")).to_have_text("1.430")


def inked(page: Page, selector: str) -> int:
    """Pixels of a canvas that something was drawn on."""
    count: int = page.locator(selector).first.evaluate(
        """canvas => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let inked = 0;
            for (let i = 3; i < data.length; i += 4) if (data[i] > 0) inked += 1;
            return inked;
        }"""
    )
    return count

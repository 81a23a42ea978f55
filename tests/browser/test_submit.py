"""Forms that are made from the API's own schemas."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Tab
from tests.browser.scene import Scene

REFUSED = "422 \\(Unprocessable"


def field(page: Page, pointer: str) -> Locator:
    return page.locator(f'[data-pointer="{pointer}"]')


def test_a_form_says_what_it_needs_what_it_would_take_and_makes_the_job(tab: Tab, scene: Scene) -> None:
    scene.dataset(scene.model())
    tab.sign_in(scene.key, "/")
    page = tab.page
    page.get_by_role("link", name="New job").click()
    estimate = page.get_by_role("status", name="Estimate")
    expect(estimate).to_contain_text("5 fields are still to be filled in")
    page.get_by_role("button", name="Submit").click()
    expect(field(page, "/spec/name")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("5 fields need another look")

    field(page, "/spec/name").fill("No Spaces")
    field(page, "/spec/model").fill("smollm2")
    field(page, "/spec/dataset").fill("pydoc")
    field(page, "/spec/layers").fill("0-2, 5")
    field(page, "/spec/steps").fill("0")
    expect(page.get_by_text("This is not of the form it must have.")).to_be_visible()
    expect(page.get_by_text("It must be from 1 to 10000000.")).to_be_visible()
    field(page, "/spec/name").fill("mine")
    field(page, "/spec/steps").fill("20")
    expect(estimate).to_contain_text(re.compile(r"memory[\d.]+ (MiB|GiB)"))
    before = estimate.inner_text()

    coder = page.locator('details[data-pointer="/spec/coder"]')
    coder.locator("summary").first.click()
    field(page, "/spec/coder/n_features").fill("9216")
    expect(estimate).not_to_have_text(before)
    coder.locator('details[data-pointer="/spec/coder/activation"] > summary').click()
    field(page, "/spec/coder/activation/kind").select_option("jumprelu")
    field(page, "/spec/coder/activation/threshold").fill("0.25")
    expect(page.get_by_role("region", name="As CLI")).to_contain_text("--coder.activation.threshold 0.25")

    field(page, "/priority").select_option("high")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/jobs/"))
    job = page.request.get(f"{tab.site.url}/api/v1/jobs/{page.url.rsplit('/', 1)[1]}").json()
    assert (job["name"], job["priority"], job["spec"]["layers"]) == ("mine", "high", [0, 1, 2, 5])
    assert job["spec"]["coder"]["n_features"] == 9216
    assert job["spec"]["coder"]["activation"] == {"kind": "jumprelu", "threshold": 0.25, "bandwidth": 0.05}


def test_what_only_the_lab_knows_is_told_at_its_field(tab: Tab, scene: Scene) -> None:
    tab.expected += [REFUSED]
    model = scene.model()
    scene.dataset(model)
    training = scene.training(model, scene.dataset(model))
    tab.sign_in(scene.key, f"/submit?from={training.id}")
    page = tab.page
    expect(field(page, "/spec/layers")).to_have_value("0-9")
    dataset = field(page, "/spec/dataset")
    dataset.fill("nowhere")
    expect(page.locator(f'[id="{dataset.get_attribute("id")}-error"]')).to_contain_text("nowhere")
    expect(page.get_by_role("status", name="Estimate")).to_contain_text("would be refused")
    dataset.fill("pydoc")
    expect(page.get_by_role("status", name="Estimate")).to_contain_text("memory")

    field(page, "/spec/layers").fill("0-40")
    expect(field(page, "/spec/layers")).to_have_attribute("aria-invalid", "true")


def test_a_clone_has_the_values_of_its_origin(tab: Tab, scene: Scene) -> None:
    tab.expected += [REFUSED]
    model = scene.model()
    spec = {
        "kind": "steer",
        "coders": "first",
        "prompt": "When Mary\nand John",
        "edits": [
            {"layer": 3, "feature": 7, "operation": "scale", "value": 2.5},
            {"layer": 4, "feature": 8, "operation": "ablate"},
        ],
        "tokens": 5,
    }
    origin = scene.queue(spec, {"model": str(model)}, max_retries=2)
    tab.sign_in(scene.key, f"/jobs/{origin}")
    page = tab.page
    page.get_by_role("link", name="Clone").click()
    expect(field(page, "/spec/prompt")).to_have_value("When Mary\nand John")
    expect(page.get_by_role("group", name="edits 2")).to_be_visible()
    expect(field(page, "/max_retries")).to_have_value("2")
    expect(page.get_by_role("region", name="As CLI")).to_contain_text('"value": 2.5')
    page.get_by_role("button", name="Remove edits 1").click()
    expect(page.get_by_role("group", name="edits 2")).to_be_hidden()
    expect(field(page, "/spec/edits/0/feature")).to_have_value("8")

    page.get_by_label("Kind of job").select_option("build-dataset")
    source = page.locator('details[data-pointer="/spec/source"]')
    source.locator("summary").click()
    field(page, "/spec/source/kind").select_option("hf")
    expect(field(page, "/spec/source/repo")).to_be_visible()

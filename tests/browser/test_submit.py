"""Forms that are made from the API's own schemas."""

import re
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from clew_spec.jobs import JobRequest
from tests.browser.analyses import analyses
from tests.browser.conftest import Tab
from tests.browser.documents import graph_document
from tests.browser.scene import Scene
from tests.browser.written import read

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


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "evaluate", "coders": "first", "tokens": 4096},
        {
            "kind": "steer",
            "coders": "c",
            "prompt": "a 'b'\n",
            "edits": [{"layer": 1, "feature": 2, "operation": "ablate"}],
        },
    ],
    ids=lambda spec: spec["kind"],
)
def test_a_clone_keeps_all_that_was_asked_and_is_written_so_that_others_read_it(
    tab: Tab, scene: Scene, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]
) -> None:
    tab.expected += [REFUSED]
    fields: dict[str, Any] = {
        "priority": "high",
        "max_retries": 2,
        "visibility": "lab",
        "requests": {"gpus": 1, "cpus": 4, "memory_bytes": 2**30},
    }
    asked = JobRequest.model_validate({"spec": spec, **fields, "reuse": False})
    assert asked.model_fields_set == set(JobRequest.model_fields), "a field that no test has written"
    origin = scene.queue(spec, **fields)
    tab.sign_in(scene.key, f"/submit?from={origin}")
    page = tab.page
    field(page, "/reuse").uncheck()
    for language in ("CLI", "Python", "curl"):
        page.get_by_role("radiogroup", name="Written as").get_by_text(language, exact=True).click()
        text = page.get_by_role("region", name=f"As {language}").locator("pre").inner_text()
        assert read(language, text, monkeypatch) == asked


def test_what_was_made_before_is_said_to_be_and_run_again_is_made_anew(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    scene.graph(scene.trained(scene.training(model, scene.dataset(model), layers=2), layers=2), graph_document())
    paths = analyses(graph_document())["paths"]
    tab.sign_in(scene.key)
    page = tab.page
    jobs = f"{tab.site.url}/api/v1/jobs"
    made = page.request.post(jobs, data={"spec": paths.spec}, headers={"Origin": tab.site.url}).json()
    tab.goto(f"/jobs/{made['id']}")
    scene.take(UUID(made["id"]), "paths").succeed(paths.result, dict.fromkeys(paths.files, b"{}"))
    expect(page.get_by_role("main")).to_contain_text("succeeded")
    page.get_by_role("link", name="Clone").click()
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile(made["id"]))
    expect(page.get_by_role("status").filter(has_text="Nothing was submitted")).to_be_visible()
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("button", name="paths").click()
    page.get_by_role("checkbox", name="Choose all").check()
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Yes, run again").click()
    expect(page.get_by_role("toolbar", name="Chosen jobs")).to_contain_text("1 submitted again.")
    expect(page.locator("tbody tr[data-id]")).to_have_count(2)
    page.get_by_role("link", name=made["name"]).last.click()
    expect(page.get_by_role("main")).not_to_contain_text("Nothing was submitted")

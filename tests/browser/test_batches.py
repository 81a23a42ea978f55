"""Sweeps and single jobs that ended badly, stopped and tried again from their pages."""

import re
from uuid import UUID

from playwright.sync_api import Page, expect

from clew_spec.errors import Problem
from tests.browser.conftest import Tab
from tests.browser.scene import Scene

OOPS = Problem(type="urn:clew:data-error", title="The job failed", status=500, detail="the disk was full")


def confirm(page: Page, action: str) -> None:
    page.get_by_role("button", name=action, exact=True).click()
    page.get_by_role("button", name=f"Yes, {action.lower()}").click()


def test_a_sweep_is_followed_tried_again_and_stopped_as_a_whole(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    scene.dataset(model)
    spec = {"kind": "train", "name": "t", "model": "smollm2", "dataset": "pydoc", "layers": [0], "steps": 5}
    tab.sign_in(scene.key)
    page = tab.page
    sweep = {"name": "rates", "spec": spec, "grid": {"steps": [5, 6, 7]}}
    origin = {"Origin": tab.site.url}
    made = page.request.post(f"{tab.site.url}/api/v1/sweeps", data=sweep, headers=origin)
    assert made.status == 202, made.text()
    first, *_ = page.request.get(f"{tab.site.url}/api/v1/jobs?batch={made.json()['id']}").json()["items"][::-1]

    tab.goto(f"/jobs/{first['id']}")
    belongs = page.get_by_role("region", name="Belongs to")
    expect(belongs).to_contain_text("steps=5")
    belongs.get_by_role("link", name="rates").click()
    expect(page).to_have_url(re.compile(rf"batch={made.json()['id']}"))
    rows = page.locator("tbody tr[data-id]")
    expect(rows).to_have_count(3)
    bar = page.get_by_role("toolbar", name="Sweep or pipeline")
    expect(bar).to_contain_text("sweep rates: 3 queued")

    scene.take(UUID(first["id"]), "train").fail(OOPS)
    expect(bar).to_contain_text("2 dispatched, 1 failed")  # idle workers were there
    confirm(page, "Retry failed")
    expect(bar).to_contain_text("1 queued, 2 dispatched")
    expect(bar).not_to_contain_text("1 failed")
    expect(rows).to_have_count(4)
    confirm(page, "Cancel all")
    expect(bar).to_contain_text("3 cancelled")
    # Elsewhere, once all have ended: nothing but the stream tells of it.
    retry = page.request.post(f"{tab.site.url}/api/v1/jobs/{first['id']}/retry", headers=origin)
    assert retry.status == 202, retry.text()
    expect(bar).to_contain_text("1 queued")
    bar.get_by_role("link", name="Show all jobs").click()
    expect(rows).to_have_count(7)


def test_a_failed_job_is_tried_again_by_a_job_that_says_so(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    spec = {"kind": "build-dataset", "name": "text", "model": str(model)}
    job = scene.start(spec, {"model": str(model)})
    tab.sign_in(scene.key, f"/jobs/{job.id}")
    page = tab.page
    retry = page.get_by_role("button", name="Retry", exact=True)
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    expect(retry).to_be_hidden()
    job.fail(OOPS)
    expect(retry).to_be_visible()
    confirm(page, "Retry")
    expect(page).not_to_have_url(re.compile(str(job.id)))
    belongs = page.get_by_role("region", name="Belongs to")
    expect(belongs).to_contain_text("tries again")
    expect(page.get_by_role("main")).to_contain_text("queued")
    belongs.get_by_role("link", name="build-dataset text").click()
    expect(page).to_have_url(re.compile(str(job.id)))
    expect(belongs).to_contain_text("tried again by")


def test_a_job_that_others_wait_for_is_cancelled_with_them(tab: Tab, scene: Scene) -> None:
    model = scene.model()
    scene.dataset(model)
    train = {"kind": "train", "name": "t", "model": "smollm2", "dataset": "pydoc", "layers": [0], "steps": 5}
    pipeline = {"name": "p", "jobs": {"t": {"spec": train}, "e": {"spec": {"kind": "evaluate", "coders": "jobs/t"}}}}
    tab.sign_in(scene.key)
    page = tab.page
    state = page.locator("h1 + *")
    for finished in (False, True):
        made = page.request.post(
            f"{tab.site.url}/api/v1/pipelines", data=pipeline, headers={"Origin": tab.site.url}
        ).json()
        listed = page.request.get(f"{tab.site.url}/api/v1/jobs?batch={made['id']}").json()["items"]
        first = next(job["id"] for job in listed if job["kind"] == "train")
        tab.goto(f"/jobs/{first}")
        expect(state).to_have_text("queued")
        if finished:
            scene.trained(scene.take(UUID(first), "train"), layers=1, name="t")
            expect(state).to_have_text("succeeded")
            confirm(page, "Cancel dependents")
            belongs = page.get_by_role("region", name="Belongs to")
            expect(belongs).to_contain_text(re.compile("evaluate .* cancelled"))
        else:
            page.get_by_role("button", name="Cancel", exact=True).click()
            expect(page.get_by_role("dialog", name="Cancel")).to_contain_text("The job that waits for it ends with it.")
            page.get_by_role("button", name="Yes, cancel").click()
            expect(state).to_have_text("cancelled")
        expect(page.get_by_role("button", name="Cancel dependents")).to_be_hidden()

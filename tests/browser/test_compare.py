"""Runs beside each other, and the page of one coder."""

import re
from uuid import UUID

from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.scene import Running, Scene


def two_runs(scene: Scene) -> list[tuple[Running, list[UUID]]]:
    model = scene.model()
    dataset = scene.dataset(model)
    runs = []
    for name, steps in (("short", 100), ("long", 400)):
        job = scene.training(model, dataset, name=name, layers=2, steps=steps)
        for step in (0, 50, 100):
            job.metric(step, {"L00/fvu": 1 - step / steps / 2, "L01/fvu": 2 - step / steps / 2, "lr": 0.5})
        runs.append((job, scene.trained(job, layers=2, name=name)))
    return runs


def test_runs_are_chosen_overlaid_and_told_apart(tab: Tab, scene: Scene) -> None:
    runs = two_runs(scene)
    scene.evaluate(runs[0][1], "short")
    tab.sign_in(scene.key, "/?kind=train")
    page = tab.page
    for name in ("short", "long"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("link", name="Compare", exact=True).last.click()
    expect(page.get_by_role("list", name="Runs").get_by_role("listitem")).to_have_text(["long", "short"])

    legend = page.locator('[data-metric="fvu"] .u-legend')
    expect(legend).to_contain_text("long 1.375 short 1.000", use_inner_text=True)
    page.get_by_label("Layer", exact=True).select_option("0")
    expect(legend).to_contain_text("long 0.875 short 0.500", use_inner_text=True)
    page.reload()
    expect(legend).to_contain_text("long 0.875 short 0.500", use_inner_text=True)
    page.get_by_text("time", exact=True).click()
    expect(legend).to_contain_text(re.compile(r"time\s+\d+s"), use_inner_text=True)

    differs = page.get_by_role("table", name="What differs")
    expect(differs.locator("tbody tr")).to_have_count(2)
    expect(differs).to_contain_text('name"long""short"')
    expect(differs).to_contain_text("steps400100")

    scatter = page.get_by_role("img", name="L0 against FVU of 2 coders")
    expect(scatter.locator("circle")).to_have_count(2)
    expect(scatter.locator("circle[data-front]")).to_have_count(1)
    expect(page.get_by_role("main")).to_contain_text("2 of 4 coders have not been evaluated")
    page.get_by_text("FVU / CE increase").click()
    expect(page.get_by_role("img", name="FVU against CE increase of 2 coders")).to_be_visible()

    page.get_by_role("button", name="Leave out long").click()
    expect(page.get_by_role("main")).to_contain_text("Choose at least two runs")
    page.get_by_role("checkbox", name="Compare long").check()
    expect(page.get_by_role("list", name="Runs").get_by_role("listitem")).to_have_text(["short", "long"])


def test_a_coder_tells_how_good_it_is_and_where_it_came_from(tab: Tab, scene: Scene) -> None:
    (_, coders), _ = two_runs(scene)
    scene.evaluate(coders, "short")
    tab.sign_in(scene.key, "/coders")
    page = tab.page
    page.locator(f'tr[data-id="{coders[1]}"]').get_by_role("link", name="short").click()
    metrics = page.get_by_role("region", name="Metrics")
    expect(metrics).to_contain_text("FVU0.335 0.305 to 0.365")
    expect(page.get_by_role("img", name="features 121 were never active")).to_be_visible()
    provenance = page.get_by_role("region", name="Provenance")
    for text in ("train short", "smollm2", "pydoc", "test"):
        expect(provenance).to_contain_text(text)

    export = page.get_by_role("region", name="Export")
    export.get_by_label("Format").select_option("sparsify")
    export.get_by_label("What").select_option("one")
    export.get_by_role("button", name="Export").click()
    expect(page).to_have_url(re.compile("/jobs/"))
    spec = page.request.get(f"{tab.site.url}/api/v1/jobs/{page.url.rsplit('/', 1)[1]}").json()["spec"]
    assert (spec["kind"], spec["coders"], spec["format"]) == ("export-coders", str(coders[1]), "sparsify")


def test_a_coder_without_an_evaluation_offers_one(tab: Tab, scene: Scene) -> None:
    (_, coders), _ = two_runs(scene)
    tab.sign_in(scene.key, f"/coders/{coders[0]}")
    tab.page.get_by_role("link", name="Evaluate it").click()
    expect(tab.page.locator('[data-pointer="/spec/coders"]')).to_have_value(str(coders[0]))
    expect(tab.page.get_by_role("status", name="Estimate")).to_contain_text("time")


def test_runs_beyond_those_that_are_compared_are_told_of(tab: Tab, scene: Scene) -> None:
    tab.expected += [r"404 \(Not Found\)"]
    tab.sign_in(scene.key, f"/compare?runs={','.join(str(UUID(int=n)) for n in range(52))}")
    expect(tab.page.get_by_role("status").filter(has_text="the first 50 of 52 runs")).to_be_visible()

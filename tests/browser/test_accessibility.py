"""axe finds nothing to object to on any page, in light and in dark."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.analyses import analyse, analyses
from tests.browser.conftest import Site, open_tab, violations
from tests.browser.documents import graph_document
from tests.browser.scene import Scene


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(scheme: str, browser: Browser, site: Site, scene: Scene) -> None:
    model = scene.model()
    training = scene.training(model, scene.dataset(model), layers=2)
    training.metric(0, {"L00/fvu": 1.25, "L01/fvu": 1.5})
    training.progress("train", 50, 200, "steps", rate=2)
    coders = scene.trained(training, layers=2)
    evaluation = scene.evaluate(coders)
    _, graph = scene.graph(coders, graph_document())
    found_out = [analyse(scene, analysis) for analysis in analyses(graph_document()).values()]
    waiting = scene.queue({"kind": "import-model", "name": "m", "path": "/models/m"})
    tab = open_tab(browser, site, scheme)
    page = tab.page
    tab.goto("/sign-in")
    found = []
    for path, mark in {
        "/sign-in": "API key",
        "/": "smollm2",
        f"/jobs/{training.id}": "Metrics",
        f"/jobs/{evaluation.id}": "Loss recovered",
        f"/jobs/{waiting}": "waiting for a worker",
        **{f"/jobs/{id}": "succeeded" for id in found_out},
        f"/submit?from={training.id}": "What it would take",
        "/submit?kind=steer": "What it would take",
        f"/compare?runs={training.id},{evaluation.id}": "What differs",
        "/compare": "Choose at least two runs",
        "/models": "LlamaForCausalLM",
        "/datasets": "pydoc",
        "/uploads": "Choose a folder",
        "/coders": "2,304",
        f"/coders/{coders[0]}": "Provenance",
        "/people": "New person",
        "/lab": "Waiting jobs",
        "/graphs": "ioi",
        f"/graphs/{graph}": "Strongest paths",
        f"/graphs/{graph}?node=2": "Outputs",
        f"/graphs/{graph}?node=44": "Steer",
        f'/graphs/{graph}?node=2&prune=0.5&pins=[2,9,16]&groups=[{{"name":"start","nodes":[2,9]}}]': "edges inside",
    }.items():
        if path == "/":
            tab.sign_in(scene.key)
        tab.goto(path)
        expect(page.get_by_role("main")).to_contain_text(mark)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        found += [f"{path}: {violation}" for violation in violations(page)]
    page.context.close()
    assert not found, "\n".join(found)
    assert tab.unexpected() == []

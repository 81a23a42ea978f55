"""What people and models wrote is text, and the browser is told to run nothing but the dashboard's own files."""

from playwright.sync_api import Page, expect

from clew_spec.errors import Problem
from tests.browser.analyses import analyse, analyses
from tests.browser.conftest import Tab
from tests.browser.documents import graph_document
from tests.browser.scene import Scene

MARKUP = "<img src=x onerror=\"window.ran = 'image'\"><script>window.ran = 'script'</script>"

ATTACKS = """async () => {
    const told = [];
    document.addEventListener("securitypolicyviolation", (event) => told.push(event.effectiveDirective));
    const add = (tag, fields) => {
        const element = Object.assign(document.createElement(tag), fields);
        document.body.append(element);
        return new Promise((done) => {
            element.onload = element.onerror = done;
            setTimeout(done, 500);
        });
    };
    await add("script", { textContent: "window.ran = 'inline'" });
    await add("script", { src: "data:text/javascript,window.ran='data'" });
    await add("script", { src: "https://example.org/a.js" });
    await add("div", { innerHTML: "<p onclick=\\"window.ran = 'handler'\\" style='color: red'>a</p>" });
    document.body.lastElementChild.firstElementChild.click();
    await add("iframe", { src: "https://example.org/" });
    await add("base", { href: "https://example.org/" });
    await fetch("https://example.org/").catch(() => undefined);
    await new Promise((done) => setTimeout(done, 500));
    return [...new Set(told)].sort();
}"""


def ran(page: Page) -> object:
    return page.evaluate("window.ran")


def test_markup_is_text_everywhere(tab: Tab, scene: Scene) -> None:
    document = graph_document()
    summary = document.summary.model_copy(update={"prompt": MARKUP, "tokens": [MARKUP] * len(document.summary.tokens)})
    nodes = [node.model_copy(update={"label": f"{node.id} {MARKUP}"}) for node in document.nodes]
    document = document.model_copy(update={"summary": summary, "nodes": nodes})
    model = scene.model()
    coders = scene.trained(scene.training(model, scene.dataset(model), layers=1), layers=1)
    _, graph = scene.graph(coders, document)
    failed = scene.start({"kind": "import-model", "name": "m", "path": f"/models/{MARKUP}"})
    failed.log(MARKUP, "error")
    failed.fail(Problem(type="urn:clew:data-error", title=MARKUP, status=422, detail=MARKUP, where=MARKUP, hint=MARKUP))
    tab.sign_in(scene.key)
    page = tab.page
    pages = [
        f"/jobs/{failed.id}",
        "/",
        f"/submit?from={failed.id}",
        f"/graphs/{graph}?node=2",
        f"/graphs/{graph}?node=44",
    ]
    found_out = analyses(document)
    pages += [
        f"/jobs/{analyse(scene, found_out[kind])}" for kind in ("paths", "edge", "faithfulness", "steer", "patch")
    ]
    tab.expected += ["422"]  # such a folder is not one that the lab imports from
    for path in pages:
        tab.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if path not in ("/", f"/submit?from={failed.id}"):
            expect(page.get_by_role("main")).to_contain_text("window.ran")
        assert ran(page) is None, path
    assert page.locator("img[src=x]").count() == 0


def test_the_browser_runs_the_dashboards_files_alone(tab: Tab, scene: Scene) -> None:
    tab.expected += ["Content Security Policy"]
    tab.sign_in(scene.key)
    told = tab.page.evaluate(ATTACKS)
    assert told == ["base-uri", "connect-src", "frame-src", "script-src-attr", "script-src-elem", "style-src-attr"]
    assert ran(tab.page) is None

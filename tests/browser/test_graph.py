import re
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from clew_spec.graph import GraphDocument
from tests.browser.conftest import Tab
from tests.browser.documents import graph_document
from tests.browser.scene import Scene


@pytest.fixture
def document() -> GraphDocument:
    return graph_document()


@pytest.fixture
def graph_id(scene: Scene, document: GraphDocument) -> UUID:
    model = scene.model()
    coders = scene.trained(scene.training(model, scene.dataset(model), layers=2), layers=2)
    return scene.graph(coders, document)[1]


def neighbours(document: GraphDocument, node: int, side: str) -> list[int]:
    """Ids at the other end of a node's edges, strongest first."""
    here, there = ("target", "source") if side == "Inputs" else ("source", "target")
    edges = [edge for edge in document.edges if getattr(edge, here) == node]
    return [getattr(edge, there) for edge in sorted(edges, key=lambda edge: -abs(edge.weight))]


def listed(page: Page, side: str) -> list[int]:
    entries = page.get_by_role("list", name=side).get_by_role("button").all()
    return [int(entry.get_attribute("data-node") or -1) for entry in entries]


def canvas(page: Page) -> Locator:
    return page.get_by_role("application")


def find_node(page: Page, rows: Iterable[float]) -> tuple[float, float]:
    """Move the pointer over the graph until it meets a node."""
    box = canvas(page).bounding_box()
    assert box
    for row in rows:
        for step in range(4, 60):
            x, y = box["x"] + box["width"] * step / 62, box["y"] + box["height"] * row
            page.mouse.move(x, y)
            if page.get_by_role("tooltip").count():
                return x, y
    raise AssertionError("the pointer met no node")


def chosen(page: Page) -> int:
    return int(parse_qs(urlsplit(page.url).query)["node"][0])


def test_a_click_shows_the_inputs_and_outputs_of_the_document(
    tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    expect(canvas(page)).to_be_visible()
    labels = {node.id: node.label for node in document.nodes}

    x, y = find_node(page, rows=(0.8, 0.75, 0.7, 0.85, 0.65))
    hovered = page.get_by_role("tooltip").locator("strong").inner_text()
    page.mouse.click(x, y)
    panel = page.get_by_role("region", name="Selected node")
    expect(panel.get_by_role("heading", level=2)).to_have_text(hovered)
    node = chosen(page)
    assert labels[node] == hovered
    for side in ("Inputs", "Outputs"):
        assert listed(page, side) == neighbours(document, node, side)

    # Walk: an entry leads to its node, and back leads back.
    side = "Outputs" if neighbours(document, node, "Outputs") else "Inputs"
    onward = neighbours(document, node, side)[0]
    page.get_by_role("list", name=side).get_by_role("button").first.click()
    expect(panel.get_by_role("heading", level=2)).to_have_text(labels[onward])
    assert chosen(page) == onward
    for side in ("Inputs", "Outputs"):
        assert listed(page, side) == neighbours(document, onward, side)
    page.go_back()
    expect(panel.get_by_role("heading", level=2)).to_have_text(hovered)

    page.reload()
    expect(panel.get_by_role("heading", level=2)).to_have_text(hovered)


def test_the_keyboard_alone_walks_from_the_logit_to_its_strongest_input(
    tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    canvas(page).focus()
    page.keyboard.press("ArrowUp")
    logit = next(node for node in document.nodes if node.type == "logit")
    expect(canvas(page)).to_have_attribute("data-selected", str(logit.id))
    page.keyboard.press("ArrowDown")
    below = neighbours(document, logit.id, "Inputs")[0]
    expect(canvas(page)).to_have_attribute("data-selected", str(below))
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Overview")).to_be_visible()


def test_header_paths_and_threshold_tell_what_the_document_says(
    tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    main = page.get_by_role("main")
    for text in (document.summary.prompt, "␣Mary", "90.0%", "18.4%", "41.2%", "67.3%", "400 of 900", "8.3e-7"):
        expect(main).to_contain_text(text)
    page.get_by_text("Conservation").hover()
    expect(page.get_by_role("tooltip")).to_contain_text("must add up to its value")

    path = page.get_by_role("list", name="Strongest paths").get_by_role("button").first
    labels = {node.id: node.label for node in document.nodes}
    expect(path).to_contain_text("→".join(labels[step.node] for step in document.paths[0].steps))
    path.click()
    expect(page).to_have_url(re.compile(r"path=0"))
    expect(path).to_have_attribute("aria-pressed", "true")

    slider = page.get_by_role("slider")
    count = f" of {len(document.edges):,}"
    slider.press("Home")
    expect(main).to_contain_text(f"{len(document.edges):,}{count}")
    slider.press("End")
    expect(main).not_to_contain_text(f"{len(document.edges):,}{count}")


def test_a_graph_that_is_not_there_says_so(tab: Tab, scene: Scene) -> None:
    tab.expected += ["404"]
    tab.sign_in(scene.key, f"/graphs/{uuid4()}")
    expect(tab.page.get_by_role("alert")).to_contain_text("No such thing, or not visible to you")

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from clew_spec import results, steering
from clew_spec.graph import GraphDocument
from tests.browser.conftest import Tab
from tests.browser.documents import graph_document, named
from tests.browser.scene import LINEAGE, Scene


@pytest.fixture
def document() -> GraphDocument:
    return graph_document()


@pytest.fixture
def graph_id(scene: Scene, document: GraphDocument) -> UUID:
    model = scene.model()
    coders = scene.trained(scene.training(model, scene.dataset(model), layers=2), layers=2)
    return scene.graph(coders, document)[1]


LISTS = ("Excitatory inputs", "Inhibitory inputs", "Excitatory outputs", "Inhibitory outputs")


def neighbours(document: GraphDocument, node: int, name: str) -> list[int]:
    """Ids at the other end of a node's edges of one side and sign, strongest first."""
    sign, side = name.split()
    here, there = ("target", "source") if side == "inputs" else ("source", "target")
    edges = [
        edge for edge in document.edges if getattr(edge, here) == node and (edge.weight > 0) == (sign == "Excitatory")
    ]
    return [getattr(edge, there) for edge in sorted(edges, key=lambda edge: -abs(edge.weight))]


def strongest_input(document: GraphDocument, node: int) -> int:
    return max((edge for edge in document.edges if edge.target == node), key=lambda edge: abs(edge.weight)).source


def listed(page: Page, name: str) -> list[int]:
    entries = page.get_by_role("list", name=name).locator("[data-node]").all()
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


def middle_of_node(page: Page, x: float, y: float) -> tuple[float, float]:
    """Of the one under the pointer."""
    tooltip = page.get_by_role("tooltip")
    page.mouse.move(x, y)
    node = tooltip.inner_text()

    def reach(dx: int, dy: int) -> int:
        steps = 0
        while tooltip.count() and tooltip.inner_text() == node:
            steps += 1
            page.mouse.move(x + dx * steps, y + dy * steps)
        page.mouse.move(x, y)
        tooltip.wait_for()
        return steps

    left, right = reach(-1, 0), reach(1, 0)
    x += (right - left) / 2
    up, down = reach(0, -1), reach(0, 1)
    return x, y + (down - up) / 2


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
    for name in LISTS:
        assert listed(page, name) == neighbours(document, node, name)

    # Walk: an entry leads to its node, and back leads back.
    name = next(name for name in reversed(LISTS) if neighbours(document, node, name))
    onward = neighbours(document, node, name)[0]
    page.get_by_role("list", name=name).get_by_role("button").first.click()
    expect(panel.get_by_role("heading", level=2)).to_have_text(labels[onward])
    assert chosen(page) == onward
    for name in LISTS:
        assert listed(page, name) == neighbours(document, onward, name)
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
    below = strongest_input(document, logit.id)
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
    labels = {node.id: named(node) for node in document.nodes}
    expect(path).to_contain_text("→".join(labels[step.node] for step in document.paths[0].steps))
    path.click()
    expect(page).to_have_url(re.compile(r"path=0"))
    expect(path).to_have_attribute("aria-pressed", "true")

    slider = page.get_by_role("slider", name="edges carrying")
    count = f" of {len(document.edges):,}"
    slider.press("Home")
    expect(main).to_contain_text(f"{len(document.edges):,}{count}")
    slider.press("End")
    expect(main).not_to_contain_text(f"{len(document.edges):,}{count}")


def test_the_pruning_slider_hides_nodes_and_their_edges_and_asks_the_lab_for_nothing(
    tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    controls = page.get_by_role("main")
    expect(canvas(page)).to_be_visible()
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.url) if f"/graphs/{graph_id}/document" in request.url else None
    )
    fixed = {node.id for node in document.nodes if node.type in ("token", "logit")}
    ranked = sorted((node for node in document.nodes if node.id not in fixed), key=lambda node: -node.influence)
    total = sum(node.influence for node in ranked)

    page.get_by_role("slider", name="edges carrying").press("Home")
    pruning = page.get_by_role("slider", name="nodes carrying")
    pruning.press("Home")
    for share, key in ((0.0, "ArrowRight"), (0.01, "PageUp")):
        kept, carried = set(fixed), 0.0
        for node in ranked:
            if carried / total >= share:
                break
            kept.add(node.id)
            carried += node.influence
        edges = [edge for edge in document.edges if {edge.source, edge.target} <= kept]
        expect(controls).to_contain_text(f"{share:.0%} · {len(kept)} of {len(document.nodes)}")
        expect(controls).to_contain_text(f"{len(edges):,} of {len(document.edges):,}")
        expect(page).to_have_url(re.compile(rf"prune={share:g}(&|$)"))
        pruning.press(key)
    pruning.press("End")
    expect(controls).to_contain_text(f"100% · {len(document.nodes)} of {len(document.nodes)}")
    expect(page).not_to_have_url(re.compile("prune="))
    assert asked == []


def test_pinned_nodes_are_grouped_and_a_link_shows_the_same_picture(
    tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    labels = {node.id: node.label for node in document.nodes}
    logit = next(node.id for node in document.nodes if node.type == "logit")
    into = sorted((edge for edge in document.edges if edge.target == logit), key=lambda edge: -abs(edge.weight))
    first, second = (edge.source for edge in into[:2])

    # By the keyboard: the logit and its strongest input; by the panel, another.
    canvas(page).focus()
    for key in ("ArrowUp", "p", "ArrowDown", "p"):
        page.keyboard.press(key)
    assert first == strongest_input(document, logit)
    expect(page.get_by_role("list", name="Pinned nodes").locator("[data-node]")).to_have_count(2)
    page.get_by_role("list", name="Pinned nodes").locator(f'[data-node="{logit}"]').click()
    page.get_by_role("region", name="Selected node").locator(f'[data-node="{second}"]').click()
    page.get_by_role("button", name="Pin", exact=True).click()
    expect(page.get_by_role("button", name="Unpin", exact=True)).to_have_attribute("aria-pressed", "true")
    assert listed(page, "Pinned nodes") == [logit, first, second]

    for node in (first, second):
        page.get_by_label(f"Choose {labels[node]}", exact=True).check()
    page.get_by_label("Name of the group").fill("the name")
    page.get_by_role("button", name="Group 2").click()
    panel = page.get_by_role("region", name="Selected node")
    expect(panel).to_contain_text("group of 2 nodes")
    assert listed(page, "Pinned nodes") == [logit, first]

    def edge_of_the_group() -> float:
        entry = panel.get_by_role("list", name="outputs").locator(f'[data-node="{logit}"]')
        return float(entry.inner_text().split("\n")[-2].replace("−", "-"))

    assert edge_of_the_group() == pytest.approx(sum(edge.weight for edge in into[:2]), rel=0.006)

    page.get_by_role("button", name="These alone").click()
    expect(page.get_by_role("main")).to_contain_text("2 pinned, edges between them: 1")
    page.goto(page.url)
    expect(page.get_by_role("main")).to_contain_text("2 pinned, edges between them: 1")
    expect(panel.get_by_role("heading", level=2)).to_have_text("the name")
    assert edge_of_the_group() == pytest.approx(sum(edge.weight for edge in into[:2]), rel=0.006)

    panel.get_by_label("Name of this group").fill("another")
    panel.get_by_label("Name of this group").press("Enter")
    expect(panel.get_by_role("heading", level=2)).to_have_text("another")
    page.get_by_role("button", name="Ungroup").click()
    expect(panel.get_by_role("heading", level=2)).to_have_text(labels[second])
    expect(page.get_by_role("list", name="Pinned nodes").locator("[data-node]")).to_have_count(3)
    page.get_by_role("button", name=f"Unpin {labels[first]}", exact=True).click()
    assert listed(page, "Pinned nodes") == [logit, second]
    page.go_back()
    page.go_back()
    expect(panel.get_by_role("heading", level=2)).to_have_text("another")


def test_a_node_stays_under_the_pointer_while_the_graph_is_zoomed_and_moved(
    tab: Tab, scene: Scene, graph_id: UUID
) -> None:
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    page = tab.page
    tooltip = page.get_by_role("tooltip")
    x, y = middle_of_node(page, *find_node(page, (0.3, 0.5, 0.7, 0.9)))
    node = tooltip.inner_text()

    def under_the_pointer(at_x: float, at_y: float) -> None:
        page.mouse.move(5, 5)
        expect(tooltip).to_have_count(0)
        page.mouse.move(at_x, at_y)
        expect(tooltip).to_have_text(node, use_inner_text=True)

    page.mouse.wheel(0, -300)
    under_the_pointer(x, y)
    page.keyboard.press("Escape")
    page.mouse.move(x + 40, y + 40)
    page.mouse.down()
    page.mouse.move(x + 10, y + 60, steps=3)
    page.mouse.up()
    under_the_pointer(x - 30, y + 20)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Fit the graph").click()
    under_the_pointer(x, y)


def test_what_a_link_says_wrongly_is_left_out(tab: Tab, scene: Scene, graph_id: UUID, document: GraphDocument) -> None:
    pinned = document.nodes[3].id
    groups = '[{"name":"a","nodes":[1,3]},{"nodes":7},null]'
    search = f'node=99999&path=999&pins=["x",{pinned},-1,99998]&groups={groups}&prune=7&flow=oops&view=pinned'
    tab.sign_in(scene.key, f"/graphs/{graph_id}")
    tab.goto(f"/graphs/{graph_id}?{search}")
    page = tab.page
    expect(page.get_by_role("region", name="Overview")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("1 pinned, edges between them: 0")
    assert listed(page, "Pinned nodes") == [pinned]
    page.get_by_role("button", name="Whole picture").click()
    expect(page.get_by_role("main")).to_contain_text(f"100% · {len(document.nodes)} of {len(document.nodes)}")


def test_a_feature_is_steered_and_the_answer_is_shown_as_it_comes(
    tab: Tab, scene: Scene, document: GraphDocument
) -> None:
    model = scene.model()
    coders = scene.trained(scene.training(model, scene.dataset(model), layers=6), layers=6)
    graph_id = scene.graph(coders, document)[1]
    node = next(node for node in document.nodes if node.type == "feature" and node.position > 0)
    tab.sign_in(scene.key, f"/graphs/{graph_id}?node={node.id}")
    page = tab.page
    page.get_by_text("Steer", exact=True).click()
    page.get_by_label("Change").select_option("scale")
    page.get_by_label("Value").fill("-2.5")
    page.get_by_label("Where").select_option("from here on")
    page.get_by_label("Tokens to generate").fill("3")
    with page.expect_request(lambda request: request.method == "POST") as asked:
        page.get_by_role("button", name="Run").click()
    body = asked.value.post_data_json
    assert body is not None
    where: dict[str, Any] = {"layer": node.layer, "feature": node.feature}
    edit = where | {"start": node.position, "stop": None, "operation": "scale", "value": -2.5}
    assert body["spec"] == {"kind": "steer", "graph": str(graph_id), "edits": [edit], "tokens": 3}
    outcome = page.get_by_role("status", name="Steering")
    expect(outcome).to_contain_text("queued")

    job = scene.take(UUID(parse_qs(urlsplit(page.url).query)["steer"][0]), "steer")
    expect(outcome).to_contain_text("running")
    job.succeed(
        results.SteerResult(
            prompt=document.summary.prompt,
            tokens=document.summary.tokens,
            bos="none",
            frozen=False,
            next_tokens=[steering.NextToken(token=" Mary", token_id=200, before=0.9, after=0.125)],
            kl=1.5,
            activations=[
                steering.EditedActivation(**where, position=node.position, before=node.value, after=-2.5 * node.value)
            ],
            text_before=" the store together",
            text_after=" a place far away",
            prediction=None,
            lineage=LINEAGE,
        ),
        {},
    )
    for text in ("succeeded", "the store together", "a place far away", "␣Mary 90.0% 12.5%", "1.500", node.label):
        expect(outcome).to_contain_text(text, use_inner_text=True)

    page.goto(page.url)
    expect(outcome).to_contain_text("a place far away")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("region", name="Overview")).to_be_visible()
    assert "steer" not in page.url


def test_a_graph_that_is_not_there_says_so(tab: Tab, scene: Scene) -> None:
    tab.expected += ["404"]
    tab.sign_in(scene.key, f"/graphs/{uuid4()}")
    expect(tab.page.get_by_role("alert")).to_contain_text("No such thing, or not visible to you")

"""The page of a job shows what the job found out."""

from playwright.sync_api import expect

from tests.browser.analyses import analyse, analyses
from tests.browser.conftest import Tab
from tests.browser.documents import graph_document, named
from tests.browser.scene import Scene

SHOWN = {
    "paths": ("Paths to Mary", ["50 found: 31.3% of all that leads there", "43.8%"]),
    "edge": ("→ Mary", ["edge +1.00", "6.3%", "a logit has no cap", "L9H2", "+1.25", "−0.500", "Layer by layer"]),
    "qk": (
        "rather than 0",
        ["score +0.500", "75.0% against 12.5%", "caps scores at 50", "+1.25", "−0.500", "the head's biases"],
    ),
    "mean-edges": (
        "Mean edges into L8/F123",
        [
            "active on 256 of 8,160 tokens",
            "activation 3.500",
            "L4/F7 +1.50 +1.25 87.5%",
            "␣John +0.625",
            "token +1.25",
        ],
    ),
    "connections": (
        "Connections of L8/F123",
        ["L7/F31 +0.875", "L9/F77 +0.750", "L5H3 read through it 2.500 37.5%", "␣thread +0.500", "␣exit −0.250"],
    ),
    "faithfulness": (
        "How faithful ioi is",
        ["50 measured", "Spearman 0.813", "the logits, random direction 240 0.969 0.125 87.5%", "CPR 0.438", "37.5%"],
    ),
    "steer": (
        "Steering",
        [
            "the store together",
            "a place far away",
            "␣Mary 90.0% 12.5%",
            "KL 1.500",
            "4.00 0.00",
            "logits alone 240 0.969 0.500",
        ],
    ),
    "patch": ("Patching, denoising", ["clean 3.500, corrupt -2.500", "resid 3 – 1 ␣Mary | ␣Anna", "head.out 9 2 all"]),
    "export-coders": ("Coders for circuit-tracer", ["3 32.0 30.5 0.313 0.344 8,160"]),
}


def test_what_was_found_is_told(tab: Tab, scene: Scene) -> None:
    document = graph_document()
    found_out = {kind: analyse(scene, analysis) for kind, analysis in analyses(document).items()}
    tab.sign_in(scene.key)
    for kind, (title, texts) in SHOWN.items():
        tab.goto(f"/jobs/{found_out[kind]}")
        found = tab.page.get_by_role("region", name=title)
        for text in texts:
            expect(found).to_contain_text(text, use_inner_text=True)

    labels = {node.id: named(node) for node in document.nodes}
    tab.goto(f"/jobs/{found_out['paths']}")
    paths = tab.page.get_by_role("list", name="Paths").get_by_role("listitem")
    expect(paths).to_have_count(len(document.paths))
    expect(paths.first).to_contain_text("→".join(labels[step.node] for step in document.paths[0].steps))

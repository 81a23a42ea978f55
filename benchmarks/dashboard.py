"""The dashboard as its readers wait for it: the built pages in Chromium, before a real lab.

Times are taken by the page itself, from what starts the wait to the frame in which its end is painted. Nothing is
cached, and the server, the browser and the runner share the machine.
"""

import gzip
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, Response
from tests.browser.documents import graph_document
from tests.support.fleet import FAKE_RUNNER

from benchmarks.bench import Bench
from benchmarks.dashboard_lab import DashboardLab, dashboard_lab
from benchmarks.queue import JOBS, SPEC
from benchmarks.rows import Row
from clew_spec.graph import Edge, GraphDocument

LOADS, REDRAWS = 10, 20
MANY = 10_000
CURVES, STEPS = 100, 1000
NODES, EDGES = 5000, 50_000
PAN_S, PAN_PX = 4.0, 7
EVENTS, STEP_MS = 150, 200
GIVE_UP_S = 60

PAINTED = """() => new Promise((done) => {
    new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) done(entry.startTime);
    }).observe({ type: "paint", buffered: true });
})"""

# A row is there and answers: its box is ticked, and what can be done with it appears.
USABLE = """
window.usable = new Promise((done) => {
    const answered = () => {
        const bar = document.querySelector('[aria-label="Chosen jobs"]');
        if (bar?.textContent.startsWith("1 chosen")) done(performance.now());
        else requestAnimationFrame(answered);
    };
    const look = () => {
        const box = document.querySelector("tbody tr[data-id] input");
        if (!box) return requestAnimationFrame(look);
        box.click();
        answered();
    };
    look();
});
"""

# When a canvas was last drawn on.
DRAWN = """
window.drawnAt = 0;
const stroke = CanvasRenderingContext2D.prototype.stroke;
CanvasRenderingContext2D.prototype.stroke = function (...path) {
    window.drawnAt = performance.now();
    return stroke.apply(this, path);
};
"""

# From a double click, which shows the whole range again, to the end of the frame that shows it.
REDRAW = """() => new Promise((done) => {
    const began = performance.now();
    window.drawnAt = 0;
    const look = () => {
        if (!window.drawnAt) return requestAnimationFrame(look);
        const channel = new MessageChannel();
        channel.port1.onmessage = () => done(performance.now() - began);
        channel.port2.postMessage(null);
    };
    document.querySelector('[data-metric="fvu"] .u-over').dispatchEvent(new MouseEvent("dblclick"));
    requestAnimationFrame(look);
})"""

# Once nothing was drawn for a while.
AT_REST = """() => new Promise((done) => {
    const look = () => (performance.now() - window.drawnAt > 200 ? done() : requestAnimationFrame(look));
    look();
})"""

# How old each line of the log is in the frame that first shows it, by the clock that the line tells.
LAGS = """
window.lags = {};
new MutationObserver(() => requestAnimationFrame(() => {
    const now = performance.timeOrigin + performance.now();
    for (const line of document.querySelectorAll('[role="log"] [data-index]')) {
        const said = /it is ([0-9.]+)/.exec(line.textContent)?.[1];
        if (said && !(said in window.lags)) window.lags[said] = now - 1000 * Number(said);
    }
})).observe(document, { childList: true, subtree: true });
"""


def first_paint(bench: Bench) -> Row:
    """The jobs page of a lab with some jobs, from the address to the first thing that is painted."""
    loads = _few(bench, LOADS)
    with dashboard_lab() as lab:
        _jobs(lab, 60)
        found = []
        for _ in range(loads):
            with lab.page(lab.queue.key) as page:
                page.goto("/")
                found.append(float(page.evaluate(PAINTED)))
            bench.watch.stepped()
    return _row("first-paint", found, target=1000, unit="ms to the first contentful paint")


def jobs_10k(bench: Bench) -> Row:
    """The jobs page of a project with 10,000 jobs, until a row of it answers."""
    loads, jobs = _few(bench, LOADS), 200 if bench.tiny else MANY
    with dashboard_lab() as lab:
        _jobs(lab, jobs)
        found = []
        for _ in range(loads):
            with lab.page(lab.queue.key, watch=USABLE) as page:
                page.goto("/")
                found.append(float(page.evaluate("window.usable")))
            bench.watch.stepped()
    return _row("jobs-10k", found, target=1500, unit="ms until a job can be chosen")


def bundle(bench: Bench) -> Row:
    """What the jobs page loads of JavaScript before it shows its jobs."""
    bench.watch.expect(1)
    loaded: list[Response] = []
    with dashboard_lab() as lab:
        _jobs(lab, 60)
        with lab.page(lab.queue.key) as page:
            page.on("response", lambda response: loaded.append(response))  # it takes no builtin
            page.goto("/")
            page.locator("tbody tr[data-id]").first.wait_for()
            page.wait_for_load_state("load")
            scripts = [response for response in loaded if response.request.resource_type == "script"]
            sizes = {Path(response.url).name: len(gzip.compress(response.body())) / 1000 for response in scripts}
    bench.watch.stepped()
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    note = f"{len(sizes)} files, the largest " + ", ".join(f"{name} {sizes[name]:.0f}" for name in largest)
    return _row("bundle", [sum(sizes.values())], target=250, unit="kB of JavaScript, gzipped", note=note)


def chart_100k(bench: Bench) -> Row:
    """A chart of 100 lines with 1,000 points each goes from a part of its range back to the whole."""
    redraws = _few(bench, REDRAWS)
    curves, steps = (10, 100) if bench.tiny else (CURVES, STEPS)
    with dashboard_lab() as lab:
        model = lab.scene.model()
        job = lab.scene.training(model, lab.scene.dataset(model), steps=steps)
        lab.queue.run(
            """
            insert into metrics (project_id, job_id, name, step, fence, value)
            select project_id, id, 'L' || lpad(layer::text, 2, '0') || '/fvu', n, fence,
                   exp(-n / 200.0) + layer / 100.0 + random() / 20
            from jobs, generate_series(0, :curves - 1) layer, generate_series(1, :steps) n where id = :id
            """,
            curves=curves,
            steps=steps,
            id=job.id,
        )
        with lab.page(lab.scene.key, watch=DRAWN) as page:
            page.goto(f"/jobs/{job.id}")
            found = []
            for _ in range(redraws):
                _zoom_in(page)
                found.append(float(page.evaluate(REDRAW)))
                page.get_by_role("button", name="Whole range").wait_for(state="detached")
                bench.watch.stepped()
    return _row("chart-100k", found, target=50, unit="ms to redraw")


def graph_pan(bench: Bench) -> Row:
    """Drag a picture of 5,000 nodes and 50,000 edges about, and count the frames that the compositor drew."""
    turns = _few(bench, 3)
    nodes, edges = (200, 1000) if bench.tiny else (NODES, EDGES)
    with dashboard_lab() as lab:
        model = lab.scene.model()
        coders = lab.scene.trained(lab.scene.training(model, lab.scene.dataset(model), layers=2), layers=2)
        _, graph = lab.scene.graph(coders, large_document(nodes, edges))
        found = []
        with lab.page(lab.scene.key) as page:
            page.goto(f"/graphs/{graph}?flow=-12")
            page.get_by_role("main").get_by_text(f"{edges:,} of {edges:,}").wait_for()
            for _ in range(turns):
                found.append(_frames_a_second(lab, page))
                bench.watch.stepped()
    return Row.of("dashboard/graph-pan", found, op=">=", target=30, unit="frames/s, by trace", compare="ours")


def live_lag(bench: Bench) -> Row:
    """What a runner says, until the job's page shows it: by its worker, Postgres and the stream of the tab."""
    events = 5 if bench.tiny else bench.repetitions(EVENTS)
    bench.watch.expect(events)
    with dashboard_lab() as lab, TemporaryDirectory() as folder:
        lab.queue.environ["CLEW_RUNNER_COMMAND"] = shlex.join([sys.executable, str(FAKE_RUNNER)])
        lab.queue.environ["CLEW_DATA_DIR"] = folder
        words = [f"steps_{events}", f"ms_{STEP_MS}", "clock"]
        spec = {"kind": "build-dataset", "name": "live", "model": "m", "source": {"packages": words}}
        job = lab.scene.queue(spec)
        with lab.page(lab.scene.key, watch=LAGS) as page:
            page.goto(f"/jobs/{job}")
            page.get_by_role("log").wait_for()
            worker = lab.queue.process("clew_worker.supervisor", "--pool", "train", "--name", "w1")
            with lab.queue.process("clew_scheduler"), worker:
                lags = _collect(page, events, bench)
    row = _row("live-lag", [quantiles(lags, n=20, method="inclusive")[-1]], target=1000, unit="ms, p95")
    return row.model_copy(update={"n": len(lags), "spread": {"ours": (min(lags), max(lags))}})


def large_document(n_nodes: int, n_edges: int) -> GraphDocument:
    """A picture with so many nodes and edges, edges from anywhere to anywhere above."""
    small = graph_document(n_features=0)
    document = graph_document(n_features=n_nodes - len(small.nodes), edges=False)
    rng = random.Random(0)  # noqa: S311 - a picture, not a secret
    chosen: dict[tuple[int, int], Edge] = {}
    while len(chosen) < n_edges:
        source, target = rng.choice(document.nodes), rng.choice(document.nodes)
        if source.layer < target.layer and source.position <= target.position and target.type in ("feature", "logit"):
            chosen[source.id, target.id] = Edge(source=source.id, target=target.id, weight=rng.uniform(-5, 5))
    return document.model_copy(update={"edges": list(chosen.values())})


def _few(bench: Bench, usual: int) -> int:
    """Repetitions, which the watch is told of."""
    count = 2 if bench.tiny else bench.repetitions(usual)
    bench.watch.expect(count)
    return count


def _row(name: str, found: list[float], *, target: float, unit: str, note: str = "") -> Row:
    return Row.of(f"dashboard/{name}", found, op="<=", target=target, unit=unit, compare="ours", note=note)


def _jobs(lab: DashboardLab, n: int) -> None:
    """Of the project of the lab's first key: most have ended, some wait."""
    lab.queue.run(
        JOBS.format(
            kind="case when n % 4 = 0 then 'train' else 'import-model' end",
            priority="0",
            state="case when n % 50 = 0 then 'queued' when n % 7 = 0 then 'failed' else 'succeeded' end",
            needs="0",
            ended="case when n % 50 = 0 then null else now() end",
            owner="0",
        ),
        n=n,
        spec=SPEC,
    )
    lab.queue.settle()


def _zoom_in(page: Page) -> None:
    plot = page.locator('[data-metric="fvu"] .u-over')
    plot.wait_for()
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.1 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], y, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Whole range").wait_for()
    page.evaluate(AT_REST)


def _frames_a_second(lab: DashboardLab, page: Page) -> float:
    box = page.get_by_role("application").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    lab.browser.start_tracing(page=page, categories=["disabled-by-default-devtools.timeline.frame"])
    began, moves = time.monotonic(), 0
    while time.monotonic() - began < PAN_S:
        moves += 1
        # To and fro, so that the graph stays on the screen.
        page.mouse.move(x + PAN_PX * abs(moves % 60 - 30), y + PAN_PX * abs(moves % 40 - 20))
    took = time.monotonic() - began
    trace = json.loads(lab.browser.stop_tracing())
    page.mouse.up()
    frames = [event for event in trace["traceEvents"] if event["name"] == "DrawFrame"]
    return min(len(frames), moves) / took


def _collect(page: Page, events: int, bench: Bench) -> list[float]:
    """Milliseconds each event took, once all are on the page."""
    seen, give_up_at = 0, time.monotonic() + GIVE_UP_S
    while seen < events:
        page.wait_for_timeout(STEP_MS)
        lags = [float(lag) for lag in page.evaluate("Object.values(window.lags)")]
        for _ in lags[seen:]:
            bench.watch.stepped()
            give_up_at = time.monotonic() + GIVE_UP_S
        seen = len(lags)
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{seen} of {events} events reached the page")
    return lags


MEASURES: Mapping[str, Callable[[Bench], Row]] = {
    "first-paint": first_paint,
    "jobs-10k": jobs_10k,
    "bundle": bundle,
    "chart-100k": chart_100k,
    "graph-pan": graph_pan,
    "live-lag": live_lag,
}

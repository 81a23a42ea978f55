"""From a submitted job to a circuit: `make demo`.

Starts a lab on this machine, and through its REST interface and queue imports SmolLM2-135M, builds a dataset from
docstrings, trains transcoders on ten layers, evaluates them, and attributes one prompt. A second run finds the jobs
of the first one by their idempotency keys and reuses them.
"""

import argparse
import hashlib
import time
from pathlib import Path

from rich.console import Console

from clew_client import Lab
from clew_client.watching import Board
from clew_spec.api import JobView
from clew_spec.attribution import AttributeSpec
from clew_spec.base import Spec
from clew_spec.coders import CoderSpec, TopK
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.jobs import JobState
from clew_spec.models import ImportModelSpec
from clew_spec.training import TrainSpec
from demo.lab import ROOT, start_lab, stop_lab
from demo.model import fetch_model
from demo.tables import coder_table, fvu_clearly_fell, graph_tables

PROMPT = "When Mary and John went to the store, John gave a drink to"

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".demo", help="where the model and the lab's data are kept")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--stop", action="store_true", help="stop the lab at the end")
    arguments = parser.parse_args()

    console.rule("[bold]Clew: from a submitted job to a circuit")
    model_file = fetch_model(arguments.data / "models")
    began = time.monotonic()
    lab = start_lab(arguments.data, model_file.parent)
    try:
        tell_the_story(lab, model_file, arguments.steps)
    finally:
        if arguments.stop:
            stop_lab(arguments.data)
    console.print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes.")


def tell_the_story(lab: Lab, model_file: Path, steps: int) -> None:
    do(lab, "Import SmolLM2-135M and prove its anatomy", ImportModelSpec(name="smollm2-135m", path=str(model_file)))
    do(lab, "Build a dataset from docstrings", BuildDatasetSpec(name="pydoc", model="smollm2-135m", max_tokens=400_000))
    training = do(
        lab,
        "Train transcoders on layers 0-9 from one forward stream",
        TrainSpec(
            name="demo",
            model="smollm2-135m",
            dataset="pydoc",
            layers=list(range(10)),
            coder=CoderSpec(n_features=2304, activation=TopK(k=32)),
            steps=steps,
            tokens_per_step=1024,
            checkpoint_every=100,
        ),
    )
    evaluation = do(
        lab,
        "Evaluate on held-out tokens",
        EvaluateSpec(coders=str(training.id), dataset="pydoc", tokens=2048, mean_ablation=False),
    )
    attribution = do(
        lab, "Attribute a prompt", AttributeSpec(name="mary-and-john", coders=str(training.id), prompt=PROMPT)
    )

    assert training.result is not None
    assert evaluation.result is not None
    console.print(coder_table(training.result, evaluation.result))
    if not fvu_clearly_fell(training.result):
        raise SystemExit("Held-out FVU did not clearly fall: training did not work.")
    (graph,) = lab.graphs(job=attribution.id)
    console.print(*graph_tables(lab.graph_document(graph.id)))
    console.print(
        f"\nLook at it: [link]{lab.url}[/link]  (graph: {lab.url}/graphs/{graph.id})"
        f"\nSign in with the key in [bold].demo/credentials.json[/bold]; stop the lab with"
        f" [bold]clew down --data .demo/lab[/bold]."
    )


def do(lab: Lab, title: str, spec: Spec) -> JobView:
    """Submit and watch; the same spec a second time is the same job, unless that one did not succeed."""
    console.print(f"\n[bold]{title}[/bold]")
    content = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:32]
    for attempt in range(100):
        job = lab.submit(spec, idempotency_key=f"demo-{content}-{attempt}")
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            continue  # of an earlier run
        if job.state is JobState.SUCCEEDED:
            console.print(f"  reused job {job.id}")
            return job.view
        with Board() as board:
            view = job.wait(board.event)
        if view.state is not JobState.SUCCEEDED:
            raise SystemExit(f"{title}: {view.error.detail if view.error else view.state}")
        console.print(f"  job {view.id} succeeded")
        return view
    raise SystemExit(f"{title}: it failed 100 times; look at the jobs page")


if __name__ == "__main__":
    main()

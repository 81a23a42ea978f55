"""Confirm random edges of the demo's graph in the model itself: `make demo-verify`, after `make demo`.

Each source is doubled in the model's own forward pass, with attention patterns, norm scales and MLP outputs pinned, and
the change that its target sees is held against the edge. Nothing of the sweep that found the edges takes part.
"""

import json
from pathlib import Path
from statistics import median

import torch
from rich.console import Console

from clew.circuits import load_graph, verify_edges
from clew.coders import load_coder
from clew.files import file_sha256
from clew.models import load_model
from clew_client import Lab
from clew_spec.api import RecordView
from demo.lab import CREDENTIALS, ROOT

BOUND = 1e-3
EDGES = 50


def main() -> None:
    console = Console()
    credentials = json.loads(CREDENTIALS.read_text())
    lab = Lab(credentials["url"], credentials["key"])
    graph_record = next(lab.graphs(name="mary-and-john"))
    parents = {str(parent) for parent in graph_record.lineage.parents}
    folder = ROOT / ".demo" / "verify"
    model = next(model for model in lab.models() if model.id == graph_record.model_id)
    for record in (graph_record, model):
        fetch(lab, record, folder)
    coder_records = [coder for coder in lab.coders() if str(coder.id) in parents]
    for job_id in {coder.job_id for coder in coder_records}:
        fetch(lab, next(coder for coder in coder_records if coder.job_id == job_id), folder)

    graph = load_graph(folder / "graph")
    coders = {layer: load_coder(folder / "coders" / f"L{layer:02d}") for layer in graph.coder_layers}
    checks = verify_edges(load_model(folder / "model"), coders, graph, torch.tensor(graph.token_ids), n=EDGES)
    errors = [check.relative_error for check in checks]
    console.print(
        f"{len(checks)} random edges above 1e-4 of their row: relative difference between the edge and the measured "
        f"effect: median {median(errors):.1e}, largest {max(errors):.1e} (bound {BOUND:.0e})"
    )
    console.print(
        f"conservation over all {graph.conservation.nodes:,} opened nodes: "
        f"{graph.conservation.max_relative_to_edges:.1e} of the sum of |edges| (bound 5e-06)"
    )
    if len(checks) < EDGES or max(errors) > BOUND or graph.conservation.max_relative_to_edges > 5e-6:
        raise SystemExit("The graph does not hold.")


def fetch(lab: Lab, record: RecordView, folder: Path) -> None:
    """All files of the job that made the record, below `folder` under their artifact names; kept files are reused."""
    for artifact in lab.artifacts(record.job_id):
        path = folder / artifact.name
        if not (path.exists() and file_sha256(path) == artifact.sha256):
            path.parent.mkdir(parents=True, exist_ok=True)
            lab.download(artifact, path)


if __name__ == "__main__":
    main()

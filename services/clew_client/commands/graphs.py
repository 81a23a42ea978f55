"""`clew graph`: one attribution graph."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from clew_client.display import note
from clew_client.graphs import ENDINGS, GraphForm
from clew_client.lab import Lab


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command()(export)
    app.add_typer(group, name="graph", help="Export an attribution graph.")


def export(
    ref: Annotated[
        str, typer.Argument(metavar="NAME", help="A graph's name, of which the newest is taken, or its id.")
    ],
    form: Annotated[
        GraphForm, typer.Option("--as", help="graphml and png need `pip install 'clew[exchange]'`.")
    ] = "neuronpedia",
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to; NAME with the form's ending if not given.")
    ] = None,
    model_name: Annotated[
        str, typer.Option("--model-name", help="By which Neuronpedia knows the model; written down, not looked up.")
    ] = "unknown",
) -> None:
    """Write a graph's picture for Neuronpedia's viewer, networkx and others (graphml), or as a drawing."""
    with Lab() as lab:
        graph = lab.graph(ref)
    path = to or Path(graph.view.name + ENDINGS[form])
    write_whole(path, graph.to(form, model_name=model_name))
    note(f"{len(graph.document.nodes)} of {graph.view.summary.n_nodes} nodes: {path}")


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

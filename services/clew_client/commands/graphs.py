"""`clew graph show`, `export`, `supernodes`, `diff`: attribution graphs as they are stored."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from clew_client.circuit_display import difference_parts, supernode_table
from clew_client.commands.options import AsJson
from clew_client.display import console, note, print_json, say
from clew_client.graphs import ENDINGS, GraphForm
from clew_client.job_display import jobs_table
from clew_client.lab import Lab
from clew_client.result_display import graph_table

Stored = Annotated[str, typer.Argument(metavar="NAME", help="A graph's name, of which the newest is taken, or its id.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command()(show)
    group.command()(export)
    group.command()(supernodes)
    group.command()(diff)
    app.add_typer(group, name="graph", help="Show, export, group and compare attribution graphs.")


def show(ref: Stored, as_json: AsJson = False) -> None:
    """Show what a graph explains and how well, and the analyses that were made of it."""
    with Lab() as lab:
        view = lab.graph(ref).view
    if as_json:
        print_json(view)
        return
    say(f"graph {view.name}  {view.id}")
    console().print(graph_table(view.summary))
    if view.analyses:
        say("\nAnalyses")
        console().print(jobs_table(view.analyses))


def export(
    ref: Stored,
    form: Annotated[
        GraphForm, typer.Option("--as", help="graphml and png need `pip install 'clew[exchange]'`.")
    ] = "neuronpedia",
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to; NAME with the form's ending if not given.")
    ] = None,
    model_name: Annotated[
        str, typer.Option("--model-name", help="By which Neuronpedia knows the model; written down, not looked up.")
    ] = "unknown",
    similarity: Annotated[
        float | None,
        typer.Option(
            "--supernodes", min=0.01, max=1, help="For Neuronpedia: group features this similar.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a graph's picture for Neuronpedia's viewer, networkx and others (graphml), or as a drawing."""
    with Lab() as lab:
        graph = lab.graph(ref)
    path = to or Path(graph.view.name + ENDINGS[form])
    groups = [] if similarity is None else graph.supernodes(similarity)
    write_whole(path, graph.to(form, model_name=model_name, groups=groups))
    note(f"{len(graph.document.nodes)} of {graph.view.summary.n_nodes} nodes: {path}")


def supernodes(
    ref: Stored,
    similarity: Annotated[
        float, typer.Option("--similarity", min=0.01, max=1, help="Of any two members: 1 is the same edges.")
    ] = 0.6,
    as_json: AsJson = False,
) -> None:
    """Group the features of a graph that read and are read alike."""
    with Lab() as lab:
        graph = lab.graph(ref)
    found = graph.supernodes(similarity)
    if as_json:
        print_json(found)
        return
    console().print(supernode_table(graph.document, found))


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A graph, by name or id.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another of the same coders.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Nodes and edges to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Compare two graphs by feature, whatever the positions: what is gained, lost and changed."""
    with Lab() as lab:
        found = lab.graph(before).difference(lab.graph(after))
    if as_json:
        print_json(found)
        return
    for part in difference_parts(found, top):
        console().print(part)


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

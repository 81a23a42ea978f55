"""`clew attribute`, `steer`, `patch` and others: ask for an analysis of a circuit, wait for it, show its result."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import RenderableType

from clew_client.circuit_display import document_parts
from clew_client.commands.graphs import write_whole
from clew_client.commands.options import AsJson
from clew_client.display import note, print_json
from clew_client.edits import EXPECTED, read_edit
from clew_client.lab import Lab
from clew_client.nodes import FEATURE, FILTER, read_feature, read_filter, read_root
from clew_client.watching import watch
from clew_spec.api import JobView
from clew_spec.edges import NODES
from clew_spec.errors import InvalidSpec
from clew_spec.exchange import heatmap
from clew_spec.jobs import JobState
from clew_spec.patching import PatchDirection, PatchMetric, PatchPlace

Coders = Annotated[str, typer.Argument(metavar="CODERS", help="A set of coders, by name or by its job's id.")]
MaybeCoders = Annotated[
    str | None,
    typer.Argument(metavar="[CODERS]", help="A set of coders, by name or by its job's id.", show_default=False),
]
Stored = Annotated[str, typer.Argument(metavar="GRAPH", help="A stored graph, by name or id.")]
OfGraph = Annotated[
    str | None, typer.Option("--graph", help="A stored graph, in place of coders and prompt.", show_default=False)
]
PLACES = "|".join(get_args(PatchPlace))


def register(app: typer.Typer) -> None:
    for command in (attribute, steer, faithfulness, patch, edge, qk, mean_edges, connections, paths):
        app.command()(command)


def attribute(
    coders: Coders,
    prompt: Annotated[str, typer.Option("--prompt", help="The text whose next token is explained.")],
    name: Annotated[str, typer.Option("--name", help="Of the graph.")],
    max_nodes: Annotated[int, typer.Option("--max-nodes", help="Feature nodes with incoming edges.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Attribute a prompt's next token to features."""
    _ask({"kind": "attribute", "name": name, "coders": coders, "prompt": prompt, "max_nodes": max_nodes}, as_json)


def steer(
    edit: Annotated[list[str], typer.Option("--edit", help=f"{EXPECTED}; may be given again.", metavar="EDIT")],
    coders: MaybeCoders = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The text to change features on.")] = None,
    graph: OfGraph = None,
    tokens: Annotated[int, typer.Option("--tokens", help="How many tokens to generate.")] = 0,
    frozen: Annotated[bool, typer.Option("--frozen", help="Let only direct edges act.")] = False,
    top: Annotated[int, typer.Option("--top", help="Most likely next tokens to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Change features on a prompt, and show next tokens and text without and with that."""
    asked = {"coders": coders, "prompt": prompt, "graph": graph, "tokens": tokens, "frozen": frozen, "top": top}
    _ask({"kind": "steer", "edits": [read_edit(text).model_dump() for text in edit], **asked}, as_json)


def faithfulness(
    graph: Stored,
    nodes: Annotated[int, typer.Option("--nodes", help="Features to ablate one by one.")] = 30,
    ablation: Annotated[
        Literal["zero", "mean"], typer.Option("--ablation", help="What stands in for ablated features of the curves.")
    ] = "zero",
    paraphrase: Annotated[
        list[str] | None, typer.Option("--paraphrase", help="At least three, or none; give the flag again for each.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Try out whether the model does what a graph says."""
    asked = {"graph": graph, "nodes": nodes, "ablation": ablation, "paraphrases": paraphrase or [], "seed": seed}
    _ask({"kind": "faithfulness", **asked}, as_json)


def patch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model, by name or id.")],
    clean: Annotated[str, typer.Option("--clean", help="The prompt that has the answer.")],
    corrupt: Annotated[str, typer.Option("--corrupt", help="One of as many tokens that has another.")],
    answer: Annotated[
        str | None,
        typer.Option("--answer", help="One token; else the most likely one after CLEAN.", show_default=False),
    ] = None,
    wrong: Annotated[
        str | None,
        typer.Option("--wrong", help="One token; else the most likely one after CORRUPT.", show_default=False),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place", help="What is patched; give the flag again for each.", metavar=PLACES, show_default=False
        ),
    ] = None,
    metric: Annotated[PatchMetric, typer.Option("--metric", help="What is measured.")] = "logit-difference",
    direction: Annotated[
        PatchDirection, typer.Option("--direction", help="Clean into corrupt (denoising), or corrupt into clean.")
    ] = "denoising",
    head_positions: Annotated[bool, typer.Option("--head-positions", help="Heads at one position at a time.")] = False,
    bos: Annotated[str, typer.Option("--bos", help="First in both: none, bos, or a token's text.")] = "none",
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw all places, as .svg or .png (`clew[exchange]`).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Patch activations between two prompts, and show which places carry the answer."""
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise InvalidSpec(f"no picture can be written as {picture.name}", expected="a name that ends in .svg or .png")
    asked: dict[str, Any] = {
        "model": model,
        "clean": clean,
        "corrupt": corrupt,
        "answer": answer,
        "wrong": wrong,
        "metric": metric,
    }
    asked |= {"direction": direction, "head_positions": head_positions, "bos": bos}
    _ask({"kind": "patch", **asked, **({"places": place} if place else {})}, as_json, picture=picture)


def edge(
    graph: Stored,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"A node: {NODES}.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A feature or a logit, in the same words.")],
    as_json: AsJson = False,
) -> None:
    """Take an edge apart by head and by the position that the head reads from."""
    _ask({"kind": "edge", "graph": graph, "source": source, "target": target}, as_json)


def qk(
    graph: Stored,
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Such as L9H2.")],
    query: Annotated[int, typer.Option("--query", help="The position that attends.")],
    key: Annotated[int, typer.Option("--key", help="The position it attends to.")],
    against: Annotated[
        int | None, typer.Option("--against", help="Another, whose score is subtracted.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Pairs to find.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Show why a head attends to a position: what its score is made of, by pairs of nodes."""
    _ask(
        {"kind": "qk", "graph": graph, "head": head, "query": query, "key": key, "against": against, "top": top},
        as_json,
    )


def mean_edges(
    coders: Coders,
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help=f"{FEATURE}.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Whose held-out text; else the coders' own.", show_default=False)
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Read at most.")] = 8192,
    firings: Annotated[int, typer.Option("--firings", help="Enough of them.")] = 256,
    capped: Annotated[bool, typer.Option("--capped", help="No edge counts more than the feature is active.")] = False,
    as_json: AsJson = False,
) -> None:
    """Average the edges into a feature over the held-out tokens on which it is active."""
    layer, index = read_feature(feature)
    asked = {"coders": coders, "layer": layer, "feature": index, "dataset": dataset}
    _ask({"kind": "mean-edges", **asked, "tokens": tokens, "firings": firings, "capped": capped}, as_json)


def connections(
    coders: Coders,
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help=f"{FEATURE}.")],
    upstream: Annotated[int, typer.Option("--upstream", help="Features of each layer below that it reads most.")] = 5,
    downstream: Annotated[
        int, typer.Option("--downstream", help="Features of each layer above that read it most.")
    ] = 5,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--heads", metavar="L5H3", help="Through these heads, too; may be given again.", show_default=False
        ),
    ] = None,
    strongest_heads: Annotated[
        int, typer.Option("--strongest-heads", help="Without --heads: through so many on each side.")
    ] = 3,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens at each end.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show what the weights alone connect to a feature, on no prompt."""
    layer, index = read_feature(feature)
    asked = {"upstream": upstream, "downstream": downstream, "strongest_heads": strongest_heads, "tokens": tokens}
    of = {"coders": coders, "layer": layer, "feature": index, "heads": heads or None}
    _ask({"kind": "connections", **of, **asked}, as_json, in_full=True)


def paths(
    graph: Stored,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="TOKEN", help="A target of the graph, or a feature of it such as L8/F123@5."),
    ] = None,
    minus: Annotated[
        str | None, typer.Option("--minus", metavar="TOKEN", help="A target to subtract from that of --root.")
    ] = None,
    through: Annotated[
        list[str] | None,
        typer.Option(
            "--through", metavar="NODE", help=f"{FILTER}; given again, paths pass them all.", show_default=False
        ),
    ] = None,
    n_paths: Annotated[int, typer.Option("--paths", help="How many.")] = 20,
    max_length: Annotated[int | None, typer.Option("--max-length", help="Edges of a path at most.")] = None,
    through_features: Annotated[
        bool, typer.Option("--through-features", help="Only paths that pass a feature.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the strongest paths of a graph, and what the nodes on them are made of."""
    if minus is not None and root is None:
        raise typer.BadParameter("--minus is subtracted from --root, and there is none")
    asked = {"paths": n_paths, "max_length": max_length, "through_features": through_features}
    to = None if root is None else read_root(root, minus).model_dump()
    pass_through = [read_filter(text).model_dump() for text in through or []]
    _ask({"kind": "paths", "graph": graph, "root": to, "through": pass_through, **asked}, as_json, in_full=True)


def _ask(spec: Mapping[str, Any], as_json: bool, *, in_full: bool = False, picture: Path | None = None) -> None:
    """Submit the job, follow it to its end and show its result, or all it found. Exit code 1 unless it succeeds."""
    with Lab() as lab:

        def document(ended: JobView) -> Iterator[RenderableType]:
            if ended.state is JobState.SUCCEEDED:
                yield from document_parts(lab.document(ended.id))

        job = lab.submit(spec)
        if as_json:
            ended = job.wait()
            print_json(ended)
            failed = int(ended.state is not JobState.SUCCEEDED)
        else:
            note(f"{job.view.kind} {job.view.name}: {job.id}")
            failed = watch(lab, job.view, as_json=False, **({"parts": document} if in_full else {}))
        if picture is not None and not failed:
            found = lab.patching(job.id)
            write_whole(picture, heatmap.png(found) if picture.suffix == ".png" else heatmap.svg(found).encode())
            note(f"all places: {picture}")
        raise typer.Exit(failed)

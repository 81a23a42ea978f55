"""`clew attribute`, `steer`, `faithfulness`: ask for an analysis of a circuit, wait for it, show what came of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from clew_client.commands.options import AsJson
from clew_client.display import note, print_json
from clew_client.edits import EXPECTED, read_edit
from clew_client.lab import Lab
from clew_client.watching import watch
from clew_spec.jobs import JobState

Coders = Annotated[str, typer.Argument(metavar="CODERS", help="A set of coders, by name or by its job's id.")]
MaybeCoders = Annotated[
    str | None,
    typer.Argument(metavar="[CODERS]", help="A set of coders, by name or by its job's id.", show_default=False),
]
OfGraph = Annotated[
    str | None, typer.Option("--graph", help="A stored graph, in place of coders and prompt.", show_default=False)
]


def register(app: typer.Typer) -> None:
    for command in (attribute, steer, faithfulness):
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
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="A stored graph, by name or id.")],
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


def _ask(spec: Mapping[str, Any], as_json: bool) -> None:
    """Submit the job, follow it to its end and show its result. Exit code 1 unless it succeeds."""
    with Lab() as lab:
        job = lab.submit(spec)
        if as_json:
            ended = job.wait()
            print_json(ended)
            raise typer.Exit(0 if ended.state is JobState.SUCCEEDED else 1)
        note(f"{job.view.kind} {job.view.name}: {job.id}")
        raise typer.Exit(watch(lab, job.view, as_json=False))

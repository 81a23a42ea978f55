"""`clew models`, `datasets`, `coders`, `graphs`: what the lab has made."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from clew_client.commands.options import AsJson, Limit, Named, find_job
from clew_client.display import console, number, print_json, say, since, table_of_shown
from clew_client.lab import Lab
from clew_spec.api import RecordView


def register(app: typer.Typer) -> None:
    for command in (models, datasets, coders, graphs):
        app.command()(command)


def models(name: Named = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List models, newest first."""
    with Lab() as lab:
        found = list(lab.models(name=name, limit=limit))
    _print(
        found,
        ["id", "name", "architecture", "layers>", "d_model>", "parameters>", "age>"],
        [
            (
                str(model.id),
                model.name,
                model.config.architecture,
                number(model.config.n_layers),
                number(model.config.d_model),
                number(model.config.n_parameters),
                since(model.created_at),
            )
            for model in found
        ],
        as_json,
    )


def datasets(name: Named = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    with Lab() as lab:
        found = list(lab.datasets(name=name, limit=limit))
    _print(
        found,
        ["id", "name", "train tokens>", "held out>", "context>", "bos", "age>"],
        [
            (
                str(dataset.id),
                dataset.name,
                number(dataset.train_tokens),
                number(dataset.heldout_tokens),
                number(dataset.context),
                dataset.bos,
                since(dataset.created_at),
            )
            for dataset in found
        ],
        as_json,
    )


def coders(
    name: Named = None,
    job: Annotated[str | None, typer.Option("--job", help="Only those this job trained.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only those of this model (its id).")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List coders, newest first."""
    with Lab() as lab:
        of_job = find_job(lab, job) if job else None
        found = list(lab.coders(name=name, job=of_job, model=model, limit=limit))
    _print(
        found,
        ["id", "name", "layer>", "features>", "activation", "FVU>", "L0>", "loss recovered>", "age>"],
        [
            (
                str(coder.id),
                coder.name,
                str(coder.layer),
                number(coder.config.n_features),
                " ".join(str(value) for value in coder.config.activation.model_dump().values()),
                number(coder.metrics.fvu if coder.metrics else coder.fvu_last),
                number(coder.metrics.l0 if coder.metrics else None),
                number(coder.metrics.loss_recovered_zero if coder.metrics else None),
                since(coder.created_at),
            )
            for coder in found
        ],
        as_json,
    )


def graphs(name: Named = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List attribution graphs, newest first."""
    with Lab() as lab:
        found = list(lab.graphs(name=name, limit=limit))
    _print(
        found,
        ["id", "name", "prompt", "nodes>", "edges>", "error share>", "age>"],
        [
            (
                str(graph.id),
                graph.name,
                graph.summary.prompt,
                number(graph.summary.n_nodes),
                number(graph.summary.n_edges),
                number(graph.summary.scores.error_share),
                since(graph.created_at),
            )
            for graph in found
        ],
        as_json,
    )


def _print(found: Sequence[RecordView], columns: list[str], rows: Iterable[Sequence[str]], as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found:
        console().print(table_of_shown(found, columns, rows))
    else:
        say("None yet.")

"""What the demo prints: numbers per layer, then the strongest paths."""

from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from clew_spec.evaluation import SpliceMetrics
from clew_spec.graph import GraphDocument, Node, Path
from clew_spec.results import CodersResult, EvaluationResult

CLEARLY = 0.8
"""Held-out FVU must end below this share of where it began, at the median layer and without any layer rising."""


def fvu_clearly_fell(trained: dict[str, Any]) -> bool:
    coders = CodersResult.model_validate(trained).coders
    shares = [last / first for first, last in (coder.trained_fvu for coder in coders)]
    return median(shares) < CLEARLY and max(shares) < 1


def coder_table(trained: dict[str, Any], evaluated: dict[str, Any]) -> Table:
    training, evaluation = CodersResult.model_validate(trained), EvaluationResult.model_validate(evaluated)
    metrics = {coder.layer: coder for coder in evaluation.coders}
    table = Table(
        title=f"{len(training.coders)} transcoders after {training.steps} steps ({training.tokens_seen:,} tokens)",
        caption="Held-out tokens that are not the first of their text. Recovered: loss, against zeroing that layer's "
        "MLP. KL: nats a token from the model's own predictions. Last row: all layers replaced at once.",
    )
    for column in ("layer", "L0", "FVU first", "FVU last", "CE", "CE spliced", "CE zero", "recovered", "KL"):
        table.add_column(column, justify="right")
    for coder in training.coders:
        m = metrics[coder.layer]
        cells = [f"{m.l0:.1f}", f"{coder.fvu_first:.3f}", f"{coder.fvu_last:.3f}"]
        table.add_row(str(coder.layer), *cells, *splice_cells(m))
    if (at_once := evaluation.all_replaced) is not None:
        table.add_section()
        table.add_row("all", "", "", "", *splice_cells(at_once))
    return table


def splice_cells(m: SpliceMetrics) -> list[str]:
    recovered = "-" if m.loss_recovered_zero is None else f"{m.loss_recovered_zero:.1%}"
    kl = "-" if m.kl is None else f"{m.kl:.3f}"
    return [f"{m.ce_original:.3f}", f"{m.ce_spliced:.3f}", f"{m.ce_zero:.3f}", recovered, kl]


def graph_tables(document: GraphDocument, most: int = 8) -> list[Table | Text]:
    summary = document.summary
    targets = ", ".join(f"{target.token!r} {target.probability:.2f}" for target in summary.targets[:5])
    strongest = path_table(document, "Strongest paths to the next token", document.paths[:most])
    through = [path for path in document.paths if len(path.steps) > 2]
    circuits = path_table(document, "Strongest paths through features", through[:most])
    conservation, parts = summary.conservation, summary.scores.error_parts
    facts = Text(
        f"\nPredicted next: {targets}\n"
        f"{summary.n_nodes:,} nodes, {summary.n_edges:,} edges; {summary.selection.selected:,} of "
        f"{summary.selection.active:,} active features opened.\n"
        f"Edges add up to each node's value within {conservation.max_relative_to_edges:.1e} of the sum of |edges| "
        f"({conservation.nodes:,} nodes, {conservation.dtype}).\n"
        f"Error share {summary.scores.error_share:.0%}, replacement score {summary.scores.replacement:.2f}: "
        f"{parts.no_coder:.0%} at the {summary.n_layers - len(summary.coder_layers)} layers without a coder, "
        f"{parts.coder_error:.0%} the coders' own errors, {parts.position_0:.0%} at position 0 (an attention sink, "
        f"where coders do not apply), {parts.unselected:.0%} features not opened. Minutes of training on docstrings, "
        "on a third of the layers, leave much unexplained: an error node stands for what an MLP wrote and no feature "
        "accounts for.\n"
    )
    return [facts, strongest, circuits]


def path_table(document: GraphDocument, title: str, paths: list[Path]) -> Table:
    nodes, tokens = {node.id: node for node in document.nodes}, document.summary.tokens
    table = Table(title=title, title_justify="left")
    table.add_column("score", justify="right")
    table.add_column("from its source to the logit")
    for path in paths:
        table.add_row(f"{path.score:.1e}", " → ".join(name(nodes[step.node], tokens) for step in path.steps))
    return table


def name(node: Node, tokens: list[str]) -> str:
    """Where a node stands, readable in a line: `L3 #1234 at ' Mary'`."""
    return f"{node.label} at {tokens[node.position]!r}" if node.type in ("feature", "error", "bias") else node.label

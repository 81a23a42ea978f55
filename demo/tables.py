"""What the demo prints: numbers per layer, then the strongest paths."""

from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from clew_spec.graph import GraphDocument, Node
from clew_spec.results import CodersResult, EvaluationResult

CLEARLY = 0.8
"""Held-out FVU must end below this share of where it began, at the median layer and without any layer rising."""


def fvu_clearly_fell(trained: dict[str, Any]) -> bool:
    coders = CodersResult.model_validate(trained).coders
    shares = [coder.fvu_last / coder.fvu_first for coder in coders]
    return median(shares) < CLEARLY and max(shares) < 1


def coder_table(trained: dict[str, Any], evaluated: dict[str, Any]) -> Table:
    training, evaluation = CodersResult.model_validate(trained), EvaluationResult.model_validate(evaluated)
    metrics = {coder.layer: coder for coder in evaluation.coders}
    table = Table(
        title=f"Ten transcoders after {training.steps} steps ({training.tokens_seen:,} tokens)",
        caption="Held-out tokens, position 0 left out. Loss recovered: against zero ablation of that layer's MLP.",
    )
    for column in ("layer", "L0", "FVU first", "FVU last", "CE original", "CE spliced", "CE zero", "loss recovered"):
        table.add_column(column, justify="right")
    for coder in training.coders:
        m = metrics[coder.layer]
        recovered = "-" if m.loss_recovered is None else f"{m.loss_recovered:.1%}"
        cells = [f"{m.l0:.1f}", f"{coder.fvu_first:.3f}", f"{coder.fvu_last:.3f}"]
        cells += [f"{m.ce_original:.3f}", f"{m.ce_spliced:.3f}", f"{m.ce_zero:.3f}", recovered]
        table.add_row(str(coder.layer), *cells)
    return table


def graph_tables(document: GraphDocument, most: int = 8) -> list[Table | Text]:
    summary = document.summary
    targets = ", ".join(f"{target.token!r} {target.probability:.2f}" for target in summary.targets[:5])
    nodes = {node.id: node for node in document.nodes}
    paths = Table(title=f"Strongest paths to the next token of {summary.prompt!r}", title_justify="left")
    paths.add_column("score", justify="right")
    paths.add_column("path, from its source to the logit")
    for path in document.paths[:most]:
        paths.add_row(f"{path.score:.2e}", " → ".join(name(nodes[step.node], summary.tokens) for step in path.steps))
    conservation = summary.conservation
    facts = Text(
        f"\nPredicted next: {targets}\n"
        f"{summary.n_nodes:,} nodes, {summary.n_edges:,} edges; {summary.selection.selected:,} of "
        f"{summary.selection.active:,} active features opened.\n"
        f"Edges add up to each node's value within {conservation.max_relative_to_edges:.1e} of the sum of |edges| "
        f"({conservation.nodes:,} nodes, {conservation.dtype}).\n"
        f"Error share {summary.scores.error_share:.0%}, replacement score {summary.scores.replacement:.2f}. "
        "Minutes of training on docstrings, on a third of the layers, leave this much unexplained: an error node "
        "stands for what an MLP wrote and no feature accounts for.\n"
    )
    return [facts, paths]


def name(node: Node, tokens: list[str]) -> str:
    """Where a node stands, readable in a line: `L3 #1234 at ' Mary'`."""
    return f"{node.label} at {tokens[node.position]!r}" if node.type in ("feature", "error", "bias") else node.label

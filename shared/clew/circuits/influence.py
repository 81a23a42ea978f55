"""How much of the logits flows through each node, and the scores of a graph that follow from it.

With A the matrix of edges (rows are targets), N = |A| / rowsum |A| and p the targets' probabilities, the influence is
`p N + p N^2 + ...` (circuit-tracer, `graph.py`). The graph has no cycles, so one pass from the logits down is exact.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from clew.circuits.graph import Graph, NodeKind
from clew_spec.graph import ErrorParts, GraphScores

BLOCK_EDGES = 2**24
"""Of these at once: an edge takes some 50 bytes on the way."""


def influence(targets: Tensor, offsets: Tensor, sources: Tensor, weights: Tensor, start: Tensor) -> Tensor:
    """Influence on `start` of every node through the rows given: float64[N], not counting `start` itself.

    targets int64[R] strictly ascending, offsets int64[R + 1], sources int[E] and weights float[E] are rows as in
    `Edges`, every source before its target; start float[N] is non-negative. Rows may be missing: a node without one is
    a leaf, so while a graph grows this is the influence through the rows known so far. A row of zeros passes nothing.
    Scales with `start`, so sums to at most `start.sum()` over the leaves. Raises ValueError if rows are out of order.
    """
    flow = start.to(torch.float64, copy=True)
    for first, last in _blocks(offsets, independent_rows(targets, offsets, sources)):
        edges = slice(int(offsets[first]), int(offsets[last]))
        lengths = offsets[first : last + 1].diff()
        rows = torch.arange(last - first, device=lengths.device).repeat_interleave(lengths)
        magnitude = weights[edges].abs().double()
        sums = torch.zeros(last - first, dtype=torch.float64, device=magnitude.device).index_add_(0, rows, magnitude)
        shares = magnitude / sums.where(sums > 0, 1.0)[rows]
        flow.index_add_(0, sources[edges], shares * flow[targets[first:last]][rows])
    return flow - start


def independent_rows(targets: Tensor, offsets: Tensor, sources: Tensor) -> Iterator[tuple[int, int]]:
    """Runs of rows `(first, last)`, from the last row down, in which no row's target is a source of another.

    Features of one layer have no edges between them, so there is about one run a layer. Takes no memory by the edge.
    """
    if bool((targets.diff() <= 0).any()):
        raise ValueError("targets must be strictly ascending")
    n_rows = len(targets)
    if not n_rows:
        return
    lengths = offsets.diff()
    # sources ascend: the last of a row is its greatest, and no row behind that one's feeds it
    greatest = torch.full((n_rows,), -1, dtype=torch.int64, device=targets.device)
    greatest[lengths > 0] = sources[offsets[1:][lengths > 0] - 1].long()
    if bool((greatest >= targets).any()):
        raise ValueError("every source must come before its target")
    feeders = (torch.searchsorted(targets, greatest, right=True) - 1).tolist()

    last, barrier = n_rows, -1
    for row in range(n_rows - 1, -1, -1):
        if row == barrier:
            yield row + 1, last
            last, barrier = row + 1, -1
        barrier = max(barrier, feeders[row])
    yield 0, last


def _blocks(offsets: Tensor, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut runs of rows into blocks of at most `BLOCK_EDGES` edges, or of one row, so that little memory is taken."""
    for first, last in runs:
        while first < last:
            fit = int(torch.searchsorted(offsets[first + 1 : last + 1], offsets[first] + BLOCK_EDGES, right=True))
            end = first + max(1, fit)
            yield first, end
            first = end


def node_influence(graph: Graph) -> Tensor:
    """Share of the logits' influence that through each node, float64[N]; of a logit, its normalised probability."""
    edges = graph.edges
    return influence(edges.targets, edges.offsets, edges.sources, edges.weights, graph.start) + graph.start


def explained_share(flow: Tensor, features: Tensor, selected: Tensor) -> float:
    """Influence `flow` [N] through the features `selected` bool[N], over that of all active `features` bool[N]."""
    through = float(flow[features].sum())
    return float(flow[features & selected].sum()) / through if through > 0 else 1.0


def scores(graph: Graph) -> GraphScores:
    """circuit-tracer's scores, with every active feature that was not selected counted as error.

    With `unexplained` = errors and unselected features, and `input` = tokens and positions:
    replacement = infl(input) / (infl(input) + infl(unexplained));
    completeness = sum_n flow[n] (1 - sum of N[n, unexplained]) / sum_n flow[n], flow = infl + p, over all nodes;
    error_share = infl(unexplained) / infl(leaves).

    Selecting one more feature only hands its influence on to what feeds it, so no score falls and no error share
    rises; a cap can never flatter a graph. Biases are neither input nor unexplained: they take part in N and in
    completeness and error_share, and leave replacement. Position 0 has no exemption, unless the graph leaves it out:
    its token is an input, and what its MLPs write is error. Where nothing is in the denominator the scores are 1 and
    the share 0.
    """
    flow = node_influence(graph)
    given = float(flow[graph.nodes.where(NodeKind.TOKEN, NodeKind.POSITION)].sum())
    unexplained = float(flow[graph.unexplained].sum())
    leaves = float(flow[graph.leaves].sum())
    nodes = graph.nodes
    error, coded = nodes.where(NodeKind.ERROR), torch.isin(nodes.layer, torch.tensor(graph.coder_layers))

    def part(of: Tensor) -> float:
        return float(flow[of & graph.unexplained].sum()) / leaves if leaves > 0 else 0.0

    # Every unit of flow into an unexplained node came over an edge from some target n: infl = sum_n flow[n] N[n, it].
    everything = float(flow.sum())
    return GraphScores(
        replacement=given / (given + unexplained) if given + unexplained > 0 else 1.0,
        completeness=1.0 - unexplained / everything if everything > 0 else 1.0,
        error_share=unexplained / leaves if leaves > 0 else 0.0,
        error_parts=ErrorParts(
            no_coder=part(error & ~coded),
            position_0=part(error & coded & (nodes.position == 0)),
            coder_error=part(error & coded & (nodes.position > 0)),
            unselected=part(~error),
        ),
    )

"""The strongest paths from the leaves to the most probable next token."""

import heapq
import math

import torch
from torch import Tensor

from clew.circuits.graph import Graph
from clew.circuits.influence import independent_rows
from clew_spec.graph import Path, PathStep


def strongest_paths(graph: Graph, k: int = 20, *, through_features: bool = False) -> list[Path]:
    """The `k` paths of highest score from any leaf to the logit of the most probable target, strongest first.

    `through_features` asks for circuits alone: paths that run through at least one feature.

    The score of a path is the product over its steps of |edge| / sum |edges into the same target|: the part of that
    logit's influence that takes exactly this route. A leaf is any node without a row: token, position, error, bias,
    unselected feature. Fewer than `k` are returned if there are no more of score above 0. Exact: the best score from
    each node to the logit is found from the logit down, and a best-first search from the leaves up follows it.
    """
    root = int(graph.start.argmax())
    shares = _without_direct_edges(graph, root) if through_features else graph.edges.shares
    best = _best_to(graph, root, shares)
    leaves = graph.leaves.nonzero().squeeze(1)
    found: list[Path] = []
    # (-bound, nodes, edges): the bound is the score of the best path that begins with these nodes. Equal ones are tried
    # in the order of their nodes, so each is followed to its end before the next.
    queue: list[tuple[float, tuple[int, ...], tuple[int, ...]]] = []
    for bound, leaf in zip(*_top(best[leaves], leaves, k), strict=True):
        heapq.heappush(queue, (-bound, (leaf,), ()))
    while queue and len(found) < k:
        bound, nodes, edges = heapq.heappop(queue)
        here = nodes[-1]
        if here == root:
            found.append(_path(graph, nodes, edges))
            continue
        outgoing = graph.edges.out(here)
        through = shares[outgoing] * best[graph.edges.target_of[outgoing]]
        # Exactly 1 along the best continuation, so that rounding cannot make the search stray among equal paths.
        for ratio, edge in zip(*_top(through / best[here], outgoing, k), strict=True):
            following = int(graph.edges.target_of[edge])
            heapq.heappush(queue, (bound * ratio, (*nodes, following), (*edges, edge)))
    return sorted(found, key=lambda path: -path.score)


def _without_direct_edges(graph: Graph, root: int) -> Tensor:
    """The shares of all edges, but 0 from a leaf straight to `root`: only features stand between the two."""
    shares = graph.edges.shares.clone()
    span = graph.edges.span(root)
    shares[span] *= ~graph.leaves[graph.edges.sources[span].long()]
    return shares


def _best_to(graph: Graph, root: int, shares: Tensor) -> Tensor:
    """float64[N]: the best product of shares from each node to `root`; 0 where no path leads there."""
    edges = graph.edges
    best = torch.zeros(len(graph.nodes), dtype=torch.float64)
    best[root] = 1.0
    for first, last in independent_rows(edges.targets, edges.offsets, edges.sources):
        span = slice(int(edges.offsets[first]), int(edges.offsets[last]))
        through = shares[span] * best[edges.target_of[span]]
        best.scatter_reduce_(0, edges.sources[span].long(), through, "amax")
    return best


def _top(scores: Tensor, items: Tensor, k: int) -> tuple[list[float], list[int]]:
    """At most `k` positive scores, best first, and their items. No more than `k` ways on can be among the `k` best."""
    values, order = scores.sort(descending=True, stable=True)
    n = min(k, int((values > 0).sum()))
    return values[:n].tolist(), items[order[:n]].tolist()


def _path(graph: Graph, nodes: tuple[int, ...], edges: tuple[int, ...]) -> Path:
    weights, shares = graph.edges.weights[list(edges)].tolist(), graph.edges.shares[list(edges)].tolist()
    steps = [
        PathStep(node=node, edge=weight, share=share)
        for node, weight, share in zip(nodes[:-1], weights, shares, strict=True)
    ]
    return Path(score=math.prod(shares), steps=[*steps, PathStep(node=nodes[-1])])

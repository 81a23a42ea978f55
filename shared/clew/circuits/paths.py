"""The strongest paths to a logit or a feature: exact, however many there are."""

import heapq
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from clew.circuits.graph import NODE_TYPES, Graph, NodeKind
from clew.circuits.influence import independent_rows
from clew_spec.errors import InvalidSpec
from clew_spec.graph import MAX_FILTERS, Balance, FoundPaths, Path, PathFilter, PathStep

KINDS = {name: kind for kind, name in NODE_TYPES.items()}


def strongest_paths(graph: Graph, k: int = 20, *, through_features: bool = False) -> list[Path]:
    """The `k` paths of highest score from any leaf to the logit of the most probable target, strongest first.

    `through_features` asks for circuits alone: paths that run through at least one feature.
    """
    return find_paths(graph, k, through_features=through_features).paths


def find_paths(
    graph: Graph,
    k: int = 20,
    *,
    root: int | None = None,
    filters: Sequence[PathFilter] = (),
    through_features: bool = False,
    max_length: int | None = None,
) -> FoundPaths:
    """The `k` paths of highest score from any leaf to `root`, strongest first: any node with a row, the most probable
    target's logit if none is given.

    Each filter is met by some node of a path other than its root. The score of a path is the product over its steps of
    |edge| / sum |edges into the same target|: the part of the root's influence that takes exactly this route. A leaf is
    any node without a row: token, position, error, bias, unselected feature. Fewer than `k` are returned if there are
    no more of score above 0. Exact, where the greedy search of Dunefsky et al. (2024), algorithm 1, may miss what many
    weak steps make up: the best score from each node to the root, for each set of filters that are still to be met, is
    found from the root down, and a best-first search from the leaves up follows it. With `max_length`, no path has
    more edges, and the best score is found for each number of edges that are left. Raises InvalidSpec for a root
    without a row or too many filters.
    """
    root = int(graph.start.argmax()) if root is None else root
    if not 0 <= root < len(graph.nodes) or bool(graph.leaves[root]):
        raise InvalidSpec(f"no edges into node {root} are known", expected="a logit, or a feature that was selected")
    if len(filters) > MAX_FILTERS:
        raise InvalidSpec(f"{len(filters)} filters", expected=f"at most {MAX_FILTERS}")
    shares = _without_direct_edges(graph, root) if through_features else graph.edges.shares
    meets = met(graph, filters)
    everything = 2 ** len(filters) - 1
    longest = max_length or 0
    best = _to_root(graph, root, shares, meets, everything, "amax", max_length)
    leaves = graph.leaves.nonzero().squeeze(1)
    found: list[Path] = []
    # (-bound, nodes, edges, what is still to be met from the last node on): the bound is the score of the best path
    # that begins with these nodes. Equal ones are tried in the order of their nodes, so each is followed to its end
    # before the next.
    queue: list[tuple[float, tuple[int, ...], tuple[int, ...], int]] = []
    for bound, leaf in zip(*_top(best[longest][everything, leaves], leaves, k), strict=True):
        heapq.heappush(queue, (-bound, (leaf,), (), everything))
    while queue and len(found) < k:
        bound, nodes, edges, needed = heapq.heappop(queue)
        here = nodes[-1]
        if here == root:
            found.append(_path(graph, nodes, edges))
            continue
        left = needed & ~int(meets[here])
        outgoing = graph.edges.out(here)
        here_on, after = (best[max(0, longest - len(edges) - taken)] for taken in (0, 1))
        through = shares[outgoing] * after[left, graph.edges.target_of[outgoing]]
        # Exactly 1 along the best continuation, so that rounding cannot make the search stray among equal paths.
        for ratio, edge in zip(*_top(through / here_on[needed, here], outgoing, k), strict=True):
            following = int(graph.edges.target_of[edge])
            heapq.heappush(queue, (bound * ratio, (*nodes, following), (*edges, edge), left))
    paths = sorted(found, key=lambda path: -path.score)
    total = _to_root(graph, root, shares, meets, everything, "sum", max_length)[longest][everything, leaves].sum()
    return FoundPaths(root=root, paths=paths, coverage=math.fsum(path.score for path in paths), matching=float(total))


def balance(graph: Graph, paths: Sequence[Path]) -> list[Balance]:
    """What each node with a row on these paths is made of, by node: algorithm 2 of Dunefsky et al. (2024), with what
    it leaves out."""
    kept: dict[int, set[int]] = {}
    for path in paths:
        for step, following in zip(path.steps, path.steps[1:], strict=False):
            kept.setdefault(following.node, set()).add(step.node)
    bias, unknown = graph.nodes.where(NodeKind.BIAS), graph.unexplained
    balances = []
    for node in sorted(kept):
        sources, weights = graph.edges.row(node)
        sources, weights = sources.long(), weights.double()
        on_paths = torch.isin(sources, torch.tensor(sorted(kept[node])))
        value = float(graph.nodes.value[node])
        parts = {
            "kept": float(weights[on_paths].sum()),
            "pruned": float(weights[~on_paths & ~bias[sources] & ~unknown[sources]].sum()),
            "error": float(weights[~on_paths & unknown[sources]].sum()),
            "bias": float(weights[~on_paths & bias[sources]].sum()),
            "rest": value - float(weights.sum()),
        }
        balances.append(Balance(node=node, **parts, value=value))
    return balances


def met(graph: Graph, filters: Sequence[PathFilter]) -> Tensor:
    """int64[N]: bit i where a node meets filter i."""
    nodes = graph.nodes
    met = torch.zeros(len(nodes), dtype=torch.int64)
    for index, each in enumerate(filters):
        here = torch.ones(len(nodes), dtype=torch.bool)
        if each.types is not None:
            here &= nodes.where(*(KINDS[name] for name in each.types))
        for column, wanted in (
            (nodes.layer, each.layers),
            (nodes.position, each.positions),
            (nodes.feature, each.features),
        ):
            if wanted is not None:
                here &= torch.isin(column, torch.tensor(wanted, dtype=column.dtype))
        met |= here.long() << index
    return met


def _without_direct_edges(graph: Graph, root: int) -> Tensor:
    """The shares of all edges, but 0 from a leaf straight to `root`: only features stand between the two."""
    shares = graph.edges.shares.clone()
    span = graph.edges.span(root)
    shares[span] *= ~graph.leaves[graph.edges.sources[span].long()]
    return shares


def _to_root(
    graph: Graph, root: int, shares: Tensor, met: Tensor, everything: int, over: str, max_length: int | None
) -> list[Tensor]:
    """float64[2^filters, N]: the best ("amax") or the sum ("sum") of the products of shares from each node to `root`,
    over the paths on which the filters of the set are met, this node's own included; 0 where no path leads there.
    For at most 0, 1, ... `max_length` edges; one alone for any number."""
    edges = graph.edges
    start = torch.zeros(everything + 1, len(graph.nodes), dtype=torch.float64)
    start[0, root] = 1.0
    runs = [
        slice(int(edges.offsets[first]), int(edges.offsets[last]))
        for first, last in independent_rows(edges.targets, edges.offsets, edges.sources)
    ]
    found = [start]
    for _ in range(max_length or 1):
        shorter = found[-1]
        # without a limit the runs follow one another from the root down, each on what those before it found
        longer = shorter if max_length is None else start.clone()
        for span in runs:
            sources, targets = edges.sources[span].long(), edges.target_of[span]
            for needed in range(everything + 1):
                through = shares[span] * shorter[needed & ~met[sources], targets]
                longer[needed].scatter_reduce_(0, sources, through, over)
        found.append(longer)
    return found[-1:] if max_length is None else found


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

"""Features of a picture that do the same, grouped into supernodes.

Two features are as similar as their signed edges: the cosine of what they read, as shares of each one's own input, and
that of what reads them, as shares of each reader's input, halved and added. Groups are joined by complete linkage, so
any two members are at least as similar as was asked for. The groups depend on the picture alone, and on no order in it.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import Field

from clew_spec.base import Spec
from clew_spec.graph import Edge, GraphDocument, Node

Profile = Mapping[int, float]
"""By node, signed."""


class Supernode(Spec):
    label: str
    nodes: list[int] = Field(min_length=2)
    """Ids, by layer, position and feature."""
    influence: float
    """Sum of its members'."""


class Flow(Spec):
    """All edges from the members of one group to those of another, or of nodes that are in none."""

    source: int
    """The id of the node, or of the group's first member."""
    target: int
    weight: float
    edges: int


def supernodes(
    document: GraphDocument, *, similarity: float = 0.6, layers: int = 2, positions: int = 1
) -> list[Supernode]:
    """The groups of at least two features, the most influential first.

    similarity: in (0, 1], of any two members; layers, positions: how far apart any two members may be.
    """
    features = sorted((node for node in document.nodes if node.type == "feature"), key=_place)
    reads, is_read = profiles(document.edges)
    links = _links(features, lambda a, b: (_cosine(reads, a, b) + _cosine(is_read, a, b)) / 2, layers, positions)
    found = [[features[member] for member in group] for group in _complete_linkage(len(features), links, similarity)]
    made = [
        Supernode(
            label=f"{max(group, key=lambda node: node.influence).label} +{len(group) - 1}",
            nodes=[node.id for node in group],
            influence=math.fsum(node.influence for node in group),
        )
        for group in found
        if len(group) > 1
    ]
    at = {node.id: _place(node) for node in features}
    return sorted(made, key=lambda group: (-group.influence, at[group.nodes[0]]))


def collapsed(edges: Sequence[Edge], groups: Sequence[Supernode]) -> list[Flow]:
    """The edges with each group as one node; what flows inside a group is an edge to itself."""
    group_of = {node: group.nodes[0] for group in groups for node in group.nodes}
    parts: dict[tuple[int, int], list[float]] = {}
    for edge in edges:
        pair = group_of.get(edge.source, edge.source), group_of.get(edge.target, edge.target)
        parts.setdefault(pair, []).append(edge.weight)
    return [
        Flow(source=source, target=target, weight=math.fsum(weights), edges=len(weights))
        for (source, target), weights in sorted(parts.items())
    ]


def profiles(edges: Sequence[Edge]) -> tuple[dict[int, dict[int, float]], dict[int, dict[int, float]]]:
    """Of each node what it reads and what reads it, as signed shares of the target's whole input, of unit length."""
    into: dict[int, list[float]] = {}
    for edge in edges:
        into.setdefault(edge.target, []).append(abs(edge.weight))
    whole = {target: math.fsum(weights) for target, weights in into.items()}
    reads: dict[int, dict[int, float]] = {}
    is_read: dict[int, dict[int, float]] = {}
    for edge in edges:
        if edge.weight:
            share = edge.weight / whole[edge.target]
            reads.setdefault(edge.target, {})[edge.source] = share
            is_read.setdefault(edge.source, {})[edge.target] = share
    return _unit(reads), _unit(is_read)


def _unit(of: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
    made = {}
    for node, profile in of.items():
        length = math.sqrt(math.fsum(share**2 for share in profile.values()))
        made[node] = {other: share / length for other, share in profile.items()}
    return made


def _cosine(of: Mapping[int, Profile], a: Node, b: Node) -> float:
    one, other = of.get(a.id, {}), of.get(b.id, {})
    few, many = sorted((one, other), key=len)
    # exactly rounded, so that no order of edges makes a difference
    return math.fsum(share * many[node] for node, share in few.items() if node in many)


def _place(node: Node) -> tuple[int, int, int]:
    return node.layer, node.position, node.feature or 0


def _links(
    features: Sequence[Node], similar: Callable[[Node, Node], float], layers: int, positions: int
) -> Iterator[tuple[float, int, int]]:
    """The similarity of every two features that are near enough, by index."""
    for j, b in enumerate(features):
        for i in range(j - 1, -1, -1):
            a = features[i]
            if b.layer - a.layer > layers:
                break
            if abs(a.position - b.position) <= positions:
                yield similar(a, b), i, j


def _complete_linkage(n: int, links: Iterator[tuple[float, int, int]], least: float) -> list[list[int]]:
    """Groups of the items 0 to n - 1, each named by its first: again and again the two most similar are joined, the
    first ones of equals, while all of one are at least so similar to all of the other."""
    members = {item: [item] for item in range(n)}
    near: dict[int, dict[int, float]] = {item: {} for item in range(n)}
    queue = []
    for similarity, i, j in links:
        if similarity >= least:
            near[i][j] = near[j][i] = similarity
            queue.append((-similarity, i, j))
    heapq.heapify(queue)
    while queue:
        negative, i, j = heapq.heappop(queue)
        if i not in near or j not in near or near[i].get(j) != -negative:
            continue  # one of the two was joined with another since
        members[i] = sorted(members[i] + members.pop(j))
        gone = near.pop(j)
        for other in gone:
            del near[other][j]
        kept = {other: min(near[i][other], gone[other]) for other in near[i] if other in gone}
        for other in near[i]:
            near[other].pop(i)
        near[i] = kept
        for other, similarity in kept.items():
            near[other][i] = similarity
            heapq.heappush(queue, (-similarity, min(i, other), max(i, other)))
    return list(members.values())

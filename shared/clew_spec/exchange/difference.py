"""Two graphs, node by node and edge by edge, whatever their positions: by feature, token, layer and logit.

Prompts that differ have no positions in common, so what a node does is summed over positions. Pictures are compared,
which hold the most influential nodes: what one of them lacks may be there in its graph, but matters less in it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from clew_spec.base import Spec
from clew_spec.graph import Edge, GraphDocument, Node, NodeType

K = TypeVar("K")


class NodeChange(Spec):
    """Influence on the logits, as a share of all; null where a picture has no such node."""

    type: NodeType
    name: str
    """`L8/F123`, a token, `error L3`, a logit's token."""
    before: float | None
    after: float | None


class EdgeChange(Spec):
    """The sum of all edges between nodes of these names; null where a picture has none."""

    source: str
    target: str
    before: float | None
    after: float | None


class GraphDifference(Spec):
    """What changed most comes first; what is the same in both is left out."""

    nodes: list[NodeChange]
    edges: list[EdgeChange]


def difference(before: GraphDocument, after: GraphDocument) -> GraphDifference:
    """From one picture to the other. Features are the same where layer and index are: of the same coders."""
    types: dict[str, NodeType] = {}
    sides = []
    for document in (before, after):
        names = {node.id: name_of(node) for node in document.nodes}
        types |= {name_of(node): node.type for node in document.nodes}
        nodes = _summed((names[node.id], node.influence) for node in document.nodes)
        edges = _summed(_between(names, document.edges))
        sides.append((nodes, edges))
    (nodes_before, edges_before), (nodes_after, edges_after) = sides
    return GraphDifference(
        nodes=[
            NodeChange(type=types[name], name=name, before=was, after=now)
            for name, was, now in _changes(nodes_before, nodes_after)
        ],
        edges=[
            EdgeChange(source=source, target=target, before=was, after=now)
            for (source, target), was, now in _changes(edges_before, edges_after)
        ],
    )


def name_of(node: Node) -> str:
    """What a node is at whatever position."""
    match node.type:
        case "feature":
            return f"L{node.layer}/F{node.feature}"
        case "logit":
            return f"logit {node.label.rpartition(' (p=')[0] or node.label}"
        case "token":
            return repr(node.label)
        case "position":
            return "position"
        case _:
            return node.label


def _between(names: Mapping[int, str], edges: Iterable[Edge]) -> Iterable[tuple[tuple[str, str], float]]:
    return (((names[edge.source], names[edge.target]), edge.weight) for edge in edges)


def _summed(parts: Iterable[tuple[K, float]]) -> dict[K, float]:
    found: dict[K, list[float]] = {}
    for key, value in parts:
        found.setdefault(key, []).append(value)
    return {key: math.fsum(values) for key, values in found.items()}


def _changes(before: Mapping[K, float], after: Mapping[K, float]) -> list[tuple[K, float | None, float | None]]:
    """What is not the same in both, the largest change first."""
    both = [(key, before.get(key), after.get(key)) for key in {**before, **after}]
    size: Callable[[tuple[K, float | None, float | None]], tuple[float, str]] = lambda each: (  # noqa: E731
        -abs((each[2] or 0.0) - (each[1] or 0.0)),
        str(each[0]),
    )
    return sorted((each for each in both if each[1] != each[2]), key=size)

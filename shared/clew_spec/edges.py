"""Take one edge of a stored graph apart: by head, and by the position that the head reads from."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import Field, StringConstraints

from clew_spec.base import Ref, Spec
from clew_spec.errors import InvalidSpec
from clew_spec.graph import GraphSummary, Node, NodeType

_NODE = (
    r"(?P<id>[0-9]{1,9})"
    r"|L(?P<layer>[0-9]{1,4})/(?:F(?P<feature>[0-9]{1,9})|(?P<inner>error|bias))@(?P<position>[0-9]{1,6})"
    r"|(?P<outer>token|position)@(?P<at>[0-9]{1,6})"
    r"|logit(?:@(?P<rank>[0-9]{1,4}))?"
)
NODES = "L8/F123@4, L8/error@4, L8/bias@4, token@4, position@4, logit, logit@1 (the second target), or a node's id"

NodeName = Annotated[
    str,
    StringConstraints(max_length=40, pattern="^(?:" + re.sub(r"\?P<\w+>", "", _NODE) + ")$"),
    Field(description=f"a node of a graph: {NODES}"),
]


class EdgeSpec(Spec):
    kind: Literal["edge"] = "edge"
    graph: Ref
    source: NodeName
    target: NodeName
    """A feature or a logit, whether or not its edges were computed for the graph."""


@dataclass(frozen=True)
class NamedNode:
    """What a `NodeName` says; None where it says nothing of it."""

    id: int | None = None
    type: NodeType = "logit"
    layer: int | None = None
    position: int | None = None
    feature: int | None = None
    rank: int = 0
    """Of a logit: which of the targets."""


def read_node(name: str) -> NamedNode:
    """Raises InvalidSpec for what is no `NodeName`."""
    found = re.fullmatch(_NODE, name, re.ASCII)
    if found is None:
        raise InvalidSpec(f"{name!r} is no node", expected=NODES)
    said = {key: int(text) for key, text in found.groupdict().items() if text is not None and text.isdecimal()}
    if "id" in said:
        return NamedNode(id=said["id"])
    if "layer" in said:
        kind = cast(NodeType, found["inner"] or "feature")
        return NamedNode(type=kind, layer=said["layer"], position=said["position"], feature=said.get("feature"))
    if found["outer"]:
        return NamedNode(type=cast(NodeType, found["outer"]), layer=-1, position=said["at"])
    return NamedNode(rank=said.get("rank", 0))


def require_node(name: str, summary: GraphSummary, where: str) -> NamedNode:
    """Raises InvalidSpec for a node that no graph with this summary can have."""
    node = read_node(name)
    limits = [
        ("node", node.id, summary.n_nodes),
        ("layer", node.layer, summary.n_layers),
        ("position", node.position, len(summary.tokens)),
        ("target", node.rank, len(summary.targets)),
    ]
    for what, value, n in limits:
        if value is not None and value >= n:
            raise InvalidSpec(f"the graph has no {what} {value}", where=where, expected=f"0 to {n - 1}")
    if node.type == "feature" and node.layer not in summary.coder_layers:
        raise InvalidSpec(
            f"layer {node.layer} of the graph has no features",
            where=where,
            expected=f"one of the layers {', '.join(map(str, summary.coder_layers))}",
        )
    return node


class EdgePart(Spec):
    """What a head carries as the last one on the way to the target, from the position it reads."""

    layer: int
    head: int
    position: int
    weight: float


class EdgeLayer(Spec):
    """What passes each head of a layer, whatever comes before and after it, and what passes none; they add up to the
    edge."""

    layer: int
    around: float
    heads: list[float]


class EdgeSplit(Spec):
    """`direct`, `parts` and `rest` add up to `edge`; so do `direct` and `positions`."""

    source: Node
    target: Node
    edge: float
    stored: float | None
    """As the graph has it; null where the target's edges were not computed for it."""
    share: float | None
    """|edge| over the sum of |edges| into the target, where the graph has them."""
    capped: float | None
    """What the target would lose without this source alone: the edge, but at most its activation. Null of a logit."""
    direct: float
    """What no head carries: through the residual stream and skip paths, at the target's own position."""
    parts: list[EdgePart]
    """The strongest ones."""
    rest: float
    """Sum of the other parts."""
    positions: list[float]
    """Sum of all parts by the position that the last head reads from."""
    layers: list[EdgeLayer]
    """Those whose attention lies between source and target."""


class EdgeDocument(EdgeSplit):
    """`edge.json`: with all parts, as far as a file may hold them."""

    format: Literal["clew-edge/1"] = "clew-edge/1"
    tokens: list[str]
    """Of the prompt: what positions stand for."""

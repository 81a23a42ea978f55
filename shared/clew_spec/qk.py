"""Why a head attends where it does: its score between two positions, by what is written for the query and the key."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Ref, Spec
from clew_spec.connections import HeadName, require_head
from clew_spec.errors import InvalidSpec
from clew_spec.graph import GraphSummary, Node, NodeType

QKSourceType = NodeType | Literal["head"]
"""`head`: the biases of the head's own queries or keys, and of the norm before them, which belong to no node."""


class QKSpec(Spec):
    kind: Literal["qk"] = "qk"
    graph: Ref
    head: HeadName
    query: int = Field(ge=0)
    """The position that attends."""
    key: int = Field(ge=0)
    """The position that is attended to: the query's own, or one before it."""
    against: int | None = Field(default=None, ge=0)
    """Another such position: the score of `key` less that of this one, which is what the softmax goes by."""
    top: int = Field(default=500, ge=1, le=5000)
    """Pairs, and nodes of either side, told one by one, by |weight|."""


def require_positions(spec: QKSpec, summary: GraphSummary, n_heads: int) -> tuple[int, int]:
    """Layer and head. Raises InvalidSpec for what a prompt or a model of this size does not have."""
    if spec.query >= len(summary.tokens):
        raise InvalidSpec(
            f"the prompt has no position {spec.query}",
            where="/spec/query",
            expected=f"0 to {len(summary.tokens) - 1}",
        )
    for name, position in (("key", spec.key), ("against", spec.against)):
        if position is not None and position > spec.query:
            raise InvalidSpec(
                f"position {position} comes after the query's",
                where=f"/spec/{name}",
                expected=f"0 to {spec.query}",
            )
    if spec.against == spec.key:
        raise InvalidSpec("the score of a key less itself is nothing", where="/spec/against")
    return require_head(spec.head, summary.n_layers, n_heads, "/spec/head")


class QKPair(Spec):
    """What the score has of one node in the query and one in the key; below 0 it is held back. Null: the head's own."""

    query: Node | None
    key: Node | None
    weight: float


class QKNode(Spec):
    """What the score has of one node of one side, with all of the other side: its marginal."""

    node: Node | None
    weight: float


class QKPart(Spec):
    """All pairs of such nodes together."""

    query: QKSourceType
    key: QKSourceType
    weight: float


class QKScore(Spec):
    """`pairs` and `rest` add up to `score`; so do `parts`, and the marginals of all nodes of either side."""

    layer: int
    head: int
    query: int
    key: int
    against: int | None
    score: float
    """Before any cap and the softmax; with `against` the difference of two."""
    cap_at: float | None
    """The model's own cap on scores: what is told is the score before it."""
    attention: float
    """The pattern: how much of the query's attention the key has."""
    attention_against: float | None
    residual: float
    """|score - sum of all pairs| over the sum of |marginals| of both sides; the score is taken from the model's own
    queries and keys."""
    pairs: list[QKPair]
    """The strongest ones, either way."""
    rest: float
    """Sum of the other pairs."""
    queries: list[QKNode]
    """Nodes that are written for the query."""
    keys: list[QKNode]
    parts: list[QKPart]


class QKDocument(QKScore):
    """`qk.json`: with as many pairs and nodes as were asked for."""

    format: Literal["clew-qk/1"] = "clew-qk/1"
    tokens: list[str]
    """Of the prompt: what positions stand for."""

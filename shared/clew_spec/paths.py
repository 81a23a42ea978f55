"""The strongest paths of a stored graph to one of its nodes, merged into a graph whose nodes add up."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from clew_spec.base import Ref, Spec
from clew_spec.errors import InvalidSpec
from clew_spec.graph import MAX_FILTERS, Balance, Edge, GraphSummary, LogitTarget, Node, Path, PathFilter

Text = Annotated[str, Field(min_length=1, max_length=200)]


class FeatureRoot(Spec):
    """A feature whose incoming edges the graph has."""

    kind: Literal["feature"] = "feature"
    layer: int = Field(ge=0)
    feature: int = Field(ge=0)
    position: int = Field(ge=0)


class LogitRoot(Spec):
    """A logit that the graph explains, or the difference of two."""

    kind: Literal["logit"] = "logit"
    token: Text
    """As the graph's targets have it, or without the spaces around it."""
    minus: Text | None = None
    """A target as well: its logit is subtracted."""


class PathsSpec(Spec):
    """Needs the stored graph alone: neither its model nor its coders."""

    kind: Literal["paths"] = "paths"
    graph: Ref
    root: FeatureRoot | LogitRoot | None = Field(default=None, discriminator="kind")
    """What paths lead to; left out, the logit of the most probable target."""
    paths: int = Field(default=50, ge=1, le=5000)
    max_length: int | None = Field(default=None, ge=1, le=64)
    """Edges of a path at most; null: any number."""
    through: list[PathFilter] = Field(default=[], max_length=MAX_FILTERS)
    """Each is met by some node of every path, its root apart."""
    through_features: bool = False
    """Only paths on which a feature stands between leaf and root."""


class PathsSummary(Spec):
    root: Node
    paths: list[Path]
    """Strongest first."""
    nodes: list[Node]
    """Those on the paths."""
    coverage: float
    """Sum of the scores of all paths that were found. Those of all paths to a node add up to 1."""
    matching: float
    """Sum of the scores of all paths that meet the filters and the length, found or not."""


class PathsDocument(PathsSummary):
    """`paths.json`: the paths and the graph that they make together."""

    format: Literal["clew-paths/1"] = "clew-paths/1"
    edges: list[Edge]
    """Those that some path takes."""
    balances: list[Balance]
    """Of each node that some path leads into; `kept` are the edges above."""


def logit_targets(targets: Sequence[LogitTarget], root: LogitRoot) -> tuple[int, int | None]:
    """Indices of the target and of the one that is subtracted from it.

    A target that is that difference itself is taken as it is. Raises InvalidSpec where the graph explains no such
    logit, or subtracts something else from one of the two than from the other.
    """
    if root.minus is None:
        return _target(targets, root.token, "token"), None
    for index, target in enumerate(targets):
        if target.minus is not None and _same(target.token, root.token) and _same(target.minus, root.minus):
            return index, None
    token, minus = _target(targets, root.token, "token"), _target(targets, root.minus, "minus")
    a, b = targets[token], targets[minus]
    if token == minus or a.minus_id != b.minus_id or min(a.token_id, b.token_id) < 0:
        raise InvalidSpec(
            f"{a.token!r} less {b.token!r} is no difference of two logits of the graph",
            where="/spec/root/minus",
            expected="another of the graph's targets, with the same subtracted from it",
        )
    return token, minus


def check_root(root: FeatureRoot | LogitRoot | None, summary: GraphSummary) -> None:
    """Raises InvalidSpec for a root that the graph's summary shows not to be there."""
    if isinstance(root, LogitRoot):
        logit_targets(summary.targets, root)
    if isinstance(root, FeatureRoot):
        if root.layer not in summary.coder_layers:
            layers = ", ".join(map(str, summary.coder_layers))
            raise InvalidSpec(
                f"layer {root.layer} has no features in the graph",
                where="/spec/root/layer",
                expected=f"one of the layers {layers}" if layers else None,
            )
        if root.position >= len(summary.tokens):
            raise InvalidSpec(
                f"the prompt has no position {root.position}",
                where="/spec/root/position",
                expected=f"0 to {len(summary.tokens) - 1}",
            )


def _target(targets: Sequence[LogitTarget], token: str, field: str) -> int:
    exact = [index for index, target in enumerate(targets) if target.token == token]
    found = exact or [index for index, target in enumerate(targets) if _same(target.token, token)]
    if len(found) != 1:
        raise InvalidSpec(
            f"{len(found)} of the graph's targets are {token!r}" if found else f"the graph explains no {token!r}",
            where=f"/spec/root/{field}",
            expected=f"one of {', '.join(repr(target.token) for target in targets)}",
            hint="attribute the prompt again with the token among `targets`",
        )
    return found[0]


def _same(token: str, asked: str) -> bool:
    return token == asked or token.strip() == asked.strip() != ""

"""The attribution graph in memory: nodes, and edges as sparse rows by target.

Node indices are a topological order: every edge goes from a smaller to a larger index. All active features are nodes;
only the selected ones, and the logits, have a row of incoming edges. A node without a row is a leaf: tokens, positions,
errors, biases, and active features that were not selected, which count as unexplained.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor

from clew_spec.errors import DataError
from clew_spec.graph import Conservation, LogitTarget


class NodeKind(IntEnum):
    TOKEN = 0
    POSITION = 1
    FEATURE = 2
    ERROR = 3
    BIAS = 4
    LOGIT = 5


@dataclass(frozen=True, eq=False)
class Nodes:
    """Arrays over the N nodes, on the CPU."""

    kind: Tensor
    """uint8[N], a `NodeKind`."""
    layer: Tensor
    """int32[N]; -1 for tokens and positions, n_layers for logits and the final bias."""
    position: Tensor
    """int32[N]; -1 for a bias that belongs to no position."""
    feature: Tensor
    """int32[N]; -1 unless a feature."""
    token_id: Tensor
    """int32[N]; -1 unless a token or a logit."""
    value: Tensor
    """float[N]: activation of a feature, demeaned logit of a logit; else the norm of what is written."""

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, *kinds: NodeKind) -> Tensor:
        """bool[N]: the nodes of these kinds."""
        return torch.isin(self.kind, torch.tensor([int(kind) for kind in kinds], dtype=torch.uint8))


@dataclass(frozen=True, eq=False)
class Edges:
    """Compressed rows: the edges into `targets[r]` are `offsets[r]:offsets[r + 1]` of `sources` and `weights`."""

    targets: Tensor
    """int64[R], node indices, strictly ascending."""
    offsets: Tensor
    """int64[R + 1]."""
    sources: Tensor
    """int32[E], node indices, strictly ascending within a row."""
    weights: Tensor
    """float[E], signed contributions: a row sums to the target's value before its bias."""

    def __len__(self) -> int:
        return len(self.sources)

    def span(self, target: int) -> slice:
        """Where the edges into `target` lie; empty if it has no row."""
        row = int(torch.searchsorted(self.targets, target))
        if row == len(self.targets) or int(self.targets[row]) != target:
            return slice(0, 0)
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def row(self, target: int) -> tuple[Tensor, Tensor]:
        """Sources int32[e] and weights float[e] of the edges into `target`."""
        span = self.span(target)
        return self.sources[span], self.weights[span]

    def out(self, source: int) -> Tensor:
        """int64[e]: indices of the edges that leave `source`, ascending."""
        order, sources = self._by_source
        first, last = torch.searchsorted(sources, torch.tensor([source, source + 1], dtype=sources.dtype)).tolist()
        return order[first:last]

    @cached_property
    def lengths(self) -> Tensor:
        """int64[R]: edges in each row."""
        return self.offsets.diff()

    @cached_property
    def target_of(self) -> Tensor:
        """int64[E]: the node each edge goes into."""
        return self.targets.repeat_interleave(self.lengths)

    @cached_property
    def row_of(self) -> Tensor:
        """int64[E]: the row each edge lies in."""
        return torch.arange(len(self.targets)).repeat_interleave(self.lengths)

    @cached_property
    def absolute_sums(self) -> Tensor:
        """float64[R]: sum of |weight| of each row."""
        sums = torch.zeros(len(self.targets), dtype=torch.float64)
        return sums.index_add_(0, self.row_of, self.weights.abs().double())

    @cached_property
    def shares(self) -> Tensor:
        """float64[E]: |weight| over the sum of |weight| into the same target; 0 in a row of zeros."""
        sums = self.absolute_sums
        inverse = torch.where(sums > 0, 1 / sums.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        return self.weights.abs().double() * inverse[self.row_of]

    @cached_property
    def _by_source(self) -> tuple[Tensor, Tensor]:
        order = self.sources.argsort(stable=True)
        return order, self.sources[order]


@dataclass(frozen=True, eq=False)
class Graph:
    nodes: Nodes
    edges: Edges
    prompt: str
    tokens: list[str]
    token_ids: list[int]
    bos: str
    n_layers: int
    coder_layers: list[int]
    targets: list[LogitTarget]
    """The k-th target is the k-th logit node."""
    conservation: Conservation
    n_active: int
    n_selected: int
    explained_share: float
    """Influence on the logits that flows through selected features, over that of all active features."""

    @cached_property
    def leaves(self) -> Tensor:
        """bool[N]: nodes without a row."""
        leaves = torch.ones(len(self.nodes), dtype=torch.bool)
        leaves[self.edges.targets] = False
        return leaves

    @cached_property
    def unexplained(self) -> Tensor:
        """bool[N]: errors, and active features that were not selected."""
        return self.nodes.where(NodeKind.ERROR) | (self.nodes.where(NodeKind.FEATURE) & self.leaves)

    @cached_property
    def start(self) -> Tensor:
        """float64[N]: the targets' probabilities, normalised to sum 1, at their logit nodes."""
        start = torch.zeros(len(self.nodes), dtype=torch.float64)
        probabilities = torch.tensor([target.probability for target in self.targets], dtype=torch.float64)
        start[self.nodes.where(NodeKind.LOGIT)] = probabilities / probabilities.sum()
        return start

    def validate(self) -> None:
        """Raise `DataError` naming the first thing that is wrong with this graph."""
        _validate_nodes(self)
        _validate_edges(self)


def _require(condition: object, detail: str, where: str) -> None:
    if not condition:
        raise DataError(f"the graph is not valid: {detail}", where=where)


def _validate_nodes(graph: Graph) -> None:
    nodes, n_layers, n_positions = graph.nodes, graph.n_layers, len(graph.tokens)
    integers = {"layer": nodes.layer, "position": nodes.position, "feature": nodes.feature, "token_id": nodes.token_id}
    for name, array in {"kind": nodes.kind, "value": nodes.value, **integers}.items():
        _require(
            array.shape == (len(nodes),), f"expected {len(nodes)} entries, got {tuple(array.shape)}", f"nodes.{name}"
        )
        _require(array.device.type == "cpu", "the array is not on the CPU", f"nodes.{name}")
    _require(nodes.kind.dtype == torch.uint8, "expected uint8", "nodes.kind")
    for name, array in integers.items():
        _require(array.dtype == torch.int32, "expected int32", f"nodes.{name}")
    _require(nodes.value.is_floating_point() and nodes.value.isfinite().all(), "expected finite floats", "nodes.value")
    _require((nodes.kind <= max(NodeKind)).all(), "unknown kind", "nodes.kind")

    embedded = nodes.where(NodeKind.TOKEN, NodeKind.POSITION)
    features, logits = nodes.where(NodeKind.FEATURE), nodes.where(NodeKind.LOGIT)
    inner = features | nodes.where(NodeKind.ERROR)
    biases = nodes.where(NodeKind.BIAS)
    _require((nodes.layer[embedded] == -1).all(), "tokens and positions have layer -1", "nodes.layer")
    _require((nodes.layer[logits] == n_layers).all(), f"logits have layer {n_layers}", "nodes.layer")
    _require(
        ((nodes.layer[inner] >= 0) & (nodes.layer[inner] < n_layers)).all(), "a layer is out of range", "nodes.layer"
    )
    _require(
        ((nodes.layer[biases] >= -1) & (nodes.layer[biases] <= n_layers)).all(),
        "a layer is out of range",
        "nodes.layer",
    )
    _require((nodes.position < n_positions).all(), "a position is beyond the prompt", "nodes.position")
    _require((nodes.position >= torch.where(biases, -1, 0)).all(), "a position is negative", "nodes.position")
    _require(((nodes.feature >= 0) == features).all(), "features, and only they, have an index", "nodes.feature")

    tokens = nodes.where(NodeKind.TOKEN)
    _require(
        ((nodes.token_id >= 0) == (tokens | logits)).all(),
        "tokens and logits, and only they, have one",
        "nodes.token_id",
    )
    _require(len(graph.token_ids) == n_positions, f"expected {n_positions} of them", "token_ids")
    ids = torch.tensor(graph.token_ids, dtype=torch.int32)
    _require(
        (nodes.token_id[tokens] == ids[nodes.position[tokens].long()]).all(),
        "not those of the prompt",
        "nodes.token_id",
    )
    _require(graph.targets, "there are none", "targets")
    _require(
        nodes.token_id[logits].tolist() == [target.token_id for target in graph.targets],
        "not the logit nodes",
        "targets",
    )
    _require(all(target.probability > 0 for target in graph.targets), "a probability is not above 0", "targets")
    _require(graph.n_active == int(features.sum()), "not the number of feature nodes", "n_active")


def _validate_edges(graph: Graph) -> None:
    nodes, edges = graph.nodes, graph.edges
    arrays = {"targets": edges.targets, "offsets": edges.offsets, "sources": edges.sources, "weights": edges.weights}
    for name, array in arrays.items():
        _require(array.dim() == 1, "expected one dimension", f"edges.{name}")
        _require(array.device.type == "cpu", "the array is not on the CPU", f"edges.{name}")
    _require(edges.targets.dtype == edges.offsets.dtype == torch.int64, "targets and offsets: expected int64", "edges")
    _require(edges.sources.dtype == torch.int32, "expected int32", "edges.sources")
    _require(
        edges.weights.is_floating_point() and edges.weights.isfinite().all(), "expected finite floats", "edges.weights"
    )
    _require(len(edges.weights) == len(edges), "expected as many as sources", "edges.weights")
    _require(len(edges.offsets) == len(edges.targets) + 1, "expected one more than targets", "edges.offsets")
    _require(
        int(edges.offsets[0]) == 0 and int(edges.offsets[-1]) == len(edges) and (edges.lengths >= 0).all(),
        "not ascending from 0 to the number of edges",
        "edges.offsets",
    )
    _require((edges.targets.diff() > 0).all(), "not strictly ascending", "edges.targets")
    _require(((edges.targets >= 0) & (edges.targets < len(nodes))).all(), "no such node", "edges.targets")
    _require(((edges.sources >= 0) & (edges.sources < edges.target_of)).all(), "not before the target", "edges.sources")
    same_row = edges.row_of.diff() == 0
    _require((edges.sources.diff()[same_row] > 0).all(), "not strictly ascending within a row", "edges.sources")

    features, logits = nodes.where(NodeKind.FEATURE), nodes.where(NodeKind.LOGIT)
    _require((features | logits)[edges.targets].all(), "only features and logits have rows", "edges.targets")
    _require(not graph.leaves[logits].any(), "a logit has no row", "edges.targets")
    _require(not logits[edges.sources.long()].any(), "a logit is a source", "edges.sources")
    _require(graph.n_selected == int(features[edges.targets].sum()), "not the number of feature rows", "n_selected")
    source, target = edges.sources.long(), edges.target_of
    _require((nodes.position[source] <= nodes.position[target]).all(), "a later position feeds an earlier one", "edges")
    between = features[source] & features[target]
    _require(
        (nodes.layer[source] < nodes.layer[target])[between].all(), "a feature feeds one not above its layer", "edges"
    )

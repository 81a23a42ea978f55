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

from clew_spec.errors import InvalidSpec
from clew_spec.graph import Conservation, LogitTarget, NodeType, Position0, TargetRule


class NodeKind(IntEnum):
    TOKEN = 0
    POSITION = 1
    FEATURE = 2
    ERROR = 3
    BIAS = 4
    LOGIT = 5


NODE_TYPES: dict[NodeKind, NodeType] = {
    NodeKind.TOKEN: "token",
    NodeKind.POSITION: "position",
    NodeKind.FEATURE: "feature",
    NodeKind.ERROR: "error",
    NodeKind.BIAS: "bias",
    NodeKind.LOGIT: "logit",
}


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
    """int32[N]; -1 unless a token or a logit, and of a direction."""
    value: Tensor
    """float[N]: activation of a feature, `LogitTarget.logit` of a logit; else the norm of what is written."""

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
    """float[E], signed contributions: a row sums to the target's value before its own bias, but for what position 0
    leaves out. A feature's is b_enc with what the bias of the norm before its MLP gives it; a logit's biases are a
    node."""

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
        return self.weights.abs().double() / sums.where(sums > 0, 1.0)[self.row_of]

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
    position_0: Position0 = "error"
    target_rule: TargetRule = "likeliest"
    directions: Tensor | None = None
    """[n, D]: the vectors of the targets that are directions, in their order. None where there are none, and of graphs
    that were stored before vectors were kept."""

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

    def target(self, node: int) -> int:
        """Which of `targets` this logit node is."""
        return int(self.nodes.where(NodeKind.LOGIT)[:node].sum())

    def direction(self, target: int) -> Tensor:
        """[D]: what this one of `targets` reads. Raises InvalidSpec where the graph does not keep it."""
        if self.directions is None:
            raise InvalidSpec(
                f"the direction {self.targets[target].token} cannot be measured: the graph does not keep its vector",
                hint="attribute the prompt anew",
            )
        return self.directions[sum(each.token_id < 0 for each in self.targets[:target])]

    def validate(self) -> None:
        """Raise `DataError` naming the first thing that is wrong with this graph."""
        from clew.circuits.validation import validate

        validate(self)

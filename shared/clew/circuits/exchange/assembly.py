"""A graph from nodes and edges in any order, as the readers of other projects' files find them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clew.circuits.graph import Edges, Graph, NodeKind, Nodes
from clew.circuits.influence import explained_share, node_influence
from clew_spec.graph import Conservation, LogitTarget

UNKNOWN = Conservation(max_relative_to_edges=0.0, p99_relative_to_value=0.0, nodes=0, dtype="unknown")
"""Of a graph made elsewhere: over 0 nodes."""

# Within a layer; a layer's biases feed its own features.
_ORDER = (NodeKind.TOKEN, NodeKind.POSITION, NodeKind.BIAS, NodeKind.ERROR, NodeKind.FEATURE, NodeKind.LOGIT)


@dataclass(frozen=True, eq=False)
class Found:
    """What a file says. Node indices are those of the file."""

    nodes: Nodes
    sources: Tensor
    """int64[E], in any order."""
    targets: Tensor
    """int64[E]"""
    weights: Tensor
    """float[E]"""
    selected: Tensor
    """bool[N]: features with a row, be it empty; logits have one anyway."""
    prompt: str
    tokens: list[str]
    token_ids: list[int]
    bos: str
    n_layers: int
    targets_of: list[LogitTarget]
    """One for each logit node, in their order."""


def first_wrong(found: Found) -> int | None:
    """The first edge that no forward pass can have: not upwards, back in time, out of a logit, into a leaf."""
    kind, layer, position = found.nodes.kind, found.nodes.layer, found.nodes.position
    source, target = found.sources, found.targets
    into = (kind[target] == NodeKind.FEATURE) | (kind[target] == NodeKind.LOGIT)
    upward = (layer[source] < layer[target]) | ((kind[source] == NodeKind.BIAS) & (layer[source] == layer[target]))
    good = into & upward & (position[source] <= position[target]) & (kind[source] != NodeKind.LOGIT)
    wrong = (~good).nonzero()
    return int(wrong[0]) if len(wrong) else None


def assemble(found: Found) -> Graph:
    """The valid graph, its nodes numbered in topological order. Conservation is `UNKNOWN`.

    Raises `DataError` where it is not valid, as `Graph.validate` does.
    """
    order = _order(found.nodes)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    nodes = Nodes(**{name: column[order].clone() for name, column in vars(found.nodes).items() if name in _COLUMNS})
    sources, ends = place[found.sources], place[found.targets]
    by_row = sources.argsort(stable=True)
    by_row = by_row[ends[by_row].argsort(stable=True)]
    has_row = found.selected[order] | nodes.where(NodeKind.LOGIT)
    has_row[ends] = True
    rows = has_row.nonzero().squeeze(1)
    lengths = torch.bincount(ends, minlength=len(nodes))[rows]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    features = nodes.where(NodeKind.FEATURE)
    graph = Graph(
        nodes=nodes,
        edges=Edges(rows, offsets, sources[by_row].int(), found.weights[by_row]),
        prompt=found.prompt,
        tokens=found.tokens,
        token_ids=found.token_ids,
        bos=found.bos,
        n_layers=found.n_layers,
        coder_layers=sorted(set(nodes.layer[features].tolist())),
        targets=found.targets_of,
        conservation=UNKNOWN,
        n_active=int(features.sum()),
        n_selected=int((features & has_row).sum()),
        explained_share=1.0,
    )
    graph.validate()
    share = explained_share(node_influence(graph), features, features & has_row)
    return replace(graph, explained_share=min(share, 1.0))


_COLUMNS = frozenset(Nodes.__dataclass_fields__)


def _order(nodes: Nodes) -> Tensor:
    """int64[N]: by layer, kind, position and feature; what is alike in all of them stays in its order."""
    rank = torch.empty(len(NodeKind), dtype=torch.int64)
    rank[[int(kind) for kind in _ORDER]] = torch.arange(len(_ORDER))
    order = torch.arange(len(nodes))
    for key in (nodes.feature, nodes.position, rank[nodes.kind.long()], nodes.layer):
        order = order[key[order].argsort(stable=True)]
    return order

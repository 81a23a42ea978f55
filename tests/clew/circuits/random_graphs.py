"""Small random attribution graphs in float64, and the dense matrices they stand for."""

from dataclasses import replace

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from clew.circuits import Edges, Graph, NodeKind, Nodes
from clew_spec.graph import Conservation, LogitTarget

FLOAT = torch.float64
many = settings(deadline=None, max_examples=60)
few = settings(many, max_examples=25)


def random_graph(
    seed: int = 0,
    *,
    n_layers: int = 3,
    n_positions: int = 3,
    per_cell: int = 2,
    n_logits: int = 2,
    density: float = 0.8,
    circuit_tracer: bool = False,
) -> Graph:
    """Every feature selected; each edge that causality allows exists with probability `density`.

    With `circuit_tracer`, no biases and positions, as in the graphs of that tool.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: list[tuple[NodeKind, int, int, int, int]] = []
    last = n_positions - 1
    rows += [(NodeKind.TOKEN, -1, position, -1, 100 + position) for position in range(n_positions)]
    if not circuit_tracer:
        rows += [(NodeKind.POSITION, -1, position, -1, -1) for position in range(n_positions)]
    for layer in range(n_layers):
        if not circuit_tracer:
            rows.append((NodeKind.BIAS, layer, -1, -1, -1))
        cells = [(position, index) for position in range(n_positions) for index in range(per_cell)]
        rows += [(NodeKind.FEATURE, layer, position, 10 * position + index, -1) for position, index in cells]
        rows += [(NodeKind.ERROR, layer, position, -1, -1) for position in range(n_positions)]
    if not circuit_tracer:
        rows.append((NodeKind.BIAS, n_layers, -1, -1, -1))
    rows += [(NodeKind.LOGIT, n_layers, last, -1, 200 + index) for index in range(n_logits)]

    kinds, layers, positions, features, token_ids = (
        torch.tensor(column, dtype=torch.int32) for column in zip(*rows, strict=True)
    )
    values = torch.rand(len(rows), generator=generator, dtype=FLOAT)
    nodes = Nodes(kinds.to(torch.uint8), layers, positions, features, token_ids, values)

    targets = nodes.where(NodeKind.FEATURE, NodeKind.LOGIT).nonzero().squeeze(1)
    sources, weights = [], []
    for target in targets.tolist():
        below = (layers < layers[target]) | ((kinds == NodeKind.BIAS) & (layers == layers[target]))
        allowed = below & (positions <= positions[target]) & (torch.arange(len(rows)) < target)
        allowed &= torch.rand(len(rows), generator=generator) < density
        sources.append(allowed.nonzero().squeeze(1).int())
        weights.append(torch.randn(len(sources[-1]), generator=generator, dtype=FLOAT))
    offsets = torch.tensor([0, *(len(row) for row in sources)]).cumsum(0)
    probabilities = torch.rand(n_logits, generator=generator, dtype=FLOAT).softmax(0).mul(0.9).tolist()
    n_active = int(nodes.where(NodeKind.FEATURE).sum())
    return Graph(
        nodes=nodes,
        edges=Edges(targets, offsets, torch.cat(sources), torch.cat(weights)),
        prompt="a prompt",
        tokens=[f" t{position}" for position in range(n_positions)],
        token_ids=[100 + position for position in range(n_positions)],
        bos="none",
        n_layers=n_layers,
        coder_layers=list(range(n_layers)),
        targets=[
            LogitTarget(token=f" w{index}", token_id=200 + index, probability=probability, logit=1.0 - index)
            for index, probability in enumerate(probabilities)
        ],
        conservation=Conservation(
            max_relative_to_edges=1e-12, p99_relative_to_value=1e-11, nodes=n_active, dtype="float64"
        ),
        n_active=n_active,
        n_selected=n_active,
        explained_share=1.0,
    )


def with_selected(graph: Graph, selected: Tensor) -> Graph:
    """The graph with the rows of the features `selected` bool[N] only, and those of the logits."""
    edges = graph.edges
    keep = (selected | graph.nodes.where(NodeKind.LOGIT))[edges.targets]
    inside = keep[edges.row_of]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), edges.lengths[keep].cumsum(0)])
    kept = Edges(edges.targets[keep], offsets, edges.sources[inside], edges.weights[inside])
    n_selected = int(graph.nodes.where(NodeKind.FEATURE)[kept.targets].sum())
    return replace(graph, edges=kept, n_selected=n_selected)


def with_weights(graph: Graph, weights: Tensor) -> Graph:
    return replace(graph, edges=replace(graph.edges, weights=weights))


def dense(graph: Graph) -> Tensor:
    """float64[N, N], rows are targets."""
    matrix = torch.zeros(len(graph.nodes), len(graph.nodes), dtype=FLOAT)
    edges = graph.edges
    for row, target in enumerate(edges.targets.tolist()):
        for edge in range(int(edges.offsets[row]), int(edges.offsets[row + 1])):
            matrix[target, int(edges.sources[edge])] = edges.weights[edge]
    return matrix


def normalised(matrix: Tensor) -> Tensor:
    return matrix.abs() / matrix.abs().sum(1, keepdim=True).clamp_min(1e-10)


def series(normal: Tensor, start: Tensor) -> Tensor:
    """start N + start N^2 + ... until all is zero."""
    total, term = torch.zeros_like(start), start @ normal
    while term.any():
        total, term = total + term, term @ normal
    return total


@st.composite
def graphs(draw: st.DrawFn, *, all_selected: bool = False, circuit_tracer: bool | None = None) -> Graph:
    graph = random_graph(
        draw(st.integers(0, 2**32 - 1)),
        n_layers=draw(st.integers(1, 4)),
        n_positions=draw(st.integers(1, 3)),
        per_cell=draw(st.integers(0, 3)),
        n_logits=draw(st.integers(1, 3)),
        density=draw(st.sampled_from([0.2, 0.6, 1.0])),
        circuit_tracer=draw(st.booleans()) if circuit_tracer is None else circuit_tracer,
    )
    if all_selected or draw(st.booleans()):
        return graph
    chosen = torch.rand(len(graph.nodes), generator=torch.Generator().manual_seed(draw(st.integers(0, 999)))) < 0.5
    return with_selected(graph, chosen)

"""The summary and the picture of a graph, as `graph.json` and the pages show them."""

from torch import Tensor

from clew.circuits.graph import NODE_TYPES, Graph, NodeKind
from clew.circuits.influence import node_influence, scores
from clew.circuits.paths import strongest_paths
from clew.circuits.pruning import picture
from clew_spec.graph import Edge, GraphDocument, GraphSummary, LogitTarget, Node, Selection

_MARKS = str.maketrans({" ": "␣", "\n": "⏎", "\r": "⏎", "\t": "⇥"})


def summarise(graph: Graph) -> GraphSummary:
    """Everything about a graph but its nodes and edges."""
    return GraphSummary(
        prompt=graph.prompt,
        tokens=graph.tokens,
        token_ids=graph.token_ids,
        bos=graph.bos,
        n_layers=graph.n_layers,
        coder_layers=graph.coder_layers,
        n_nodes=len(graph.nodes),
        n_edges=len(graph.edges),
        targets=graph.targets,
        target_rule=graph.target_rule,
        position_0=graph.position_0,
        conservation=graph.conservation,
        selection=Selection(active=graph.n_active, selected=graph.n_selected, explained_share=graph.explained_share),
        scores=scores(graph),
    )


def document(graph: Graph, name: str, view_nodes: int, n_paths: int = 20) -> GraphDocument:
    """The `n_paths` strongest paths, as many through features, and the picture of `graph` (see `pruning.picture`)."""
    found = strongest_paths(graph, n_paths) + strongest_paths(graph, n_paths, through_features=True)
    by_nodes = {tuple(step.node for step in path.steps): path for path in found}
    paths = sorted(by_nodes.values(), key=lambda path: -path.score)
    nodes, edges = picture(graph, view_nodes, paths)
    return GraphDocument(
        name=name,
        summary=summarise(graph),
        nodes=nodes_of(graph, nodes.tolist()),
        edges=edges_of(graph, edges),
        paths=paths,
    )


def edges_of(graph: Graph, edges: Tensor | slice) -> list[Edge]:
    """These edges, by index."""
    columns = (graph.edges.sources, graph.edges.target_of, graph.edges.weights)
    triples = zip(*(column[edges].tolist() for column in columns), strict=True)
    return [Edge(source=source, target=target, weight=weight) for source, target, weight in triples]


def nodes_of(graph: Graph, ids: list[int]) -> list[Node]:
    """These nodes, by index, with their labels and influence."""
    nodes = graph.nodes
    columns = (
        nodes.kind,
        nodes.layer,
        nodes.position,
        nodes.feature,
        nodes.token_id,
        nodes.value,
        node_influence(graph),
    )
    rows = zip(ids, *(column[ids].tolist() for column in columns), strict=True)
    logits = nodes.where(NodeKind.LOGIT).nonzero().squeeze(1).tolist()
    target_of = dict(zip(logits, graph.targets, strict=True))

    def node(
        index: int, kind: int, layer: int, position: int, feature: int, token: int, value: float, flow: float
    ) -> Node:
        target = target_of.get(index)
        return Node(
            id=index,
            type=NODE_TYPES[NodeKind(kind)],
            layer=layer,
            position=position,
            feature=feature if feature >= 0 else None,
            token_id=token if token >= 0 else None,
            label=_label(graph, NodeKind(kind), layer, position, feature, target),
            value=value,
            influence=flow,
            probability=target.probability if target else None,
        )

    return [node(*row) for row in rows]


def _label(graph: Graph, kind: NodeKind, layer: int, position: int, feature: int, target: LogitTarget | None) -> str:
    if target and target.token_id < 0:
        return target.token
    if target and target.minus is not None:
        return f"{_visible(target.token)} − {_visible(target.minus)}"
    if target:
        return f"{_visible(target.token)} (p={target.probability:.2f})"
    if kind is NodeKind.TOKEN:
        return _visible(graph.tokens[position])
    if kind is NodeKind.POSITION:
        return f"position {position}"
    if kind is NodeKind.FEATURE:
        return f"L{layer} #{feature}"
    place = "embedding" if layer < 0 else "output" if layer == graph.n_layers else f"L{layer}"
    return f"{'error' if kind is NodeKind.ERROR else 'bias'} {place}"


def _visible(token: str) -> str:
    """The text of a token without the spaces around it, or those spaces made visible where there is nothing else."""
    return token.strip() or token.translate(_MARKS) or "∅"

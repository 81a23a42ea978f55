"""Whether two graphs are the same, whatever their nodes' numbers."""

from clew.circuits import Graph

Key = tuple[int, ...]


def keys(graph: Graph) -> list[Key]:
    """What a node is, by its number."""
    nodes = graph.nodes
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.feature, nodes.token_id)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def edges(graph: Graph) -> dict[tuple[Key, Key], float]:
    names = keys(graph)
    ends = zip(graph.edges.sources.tolist(), graph.edges.target_of.tolist(), strict=True)
    weights = graph.edges.weights.tolist()
    return {(names[source], names[target]): weight for (source, target), weight in zip(ends, weights, strict=True)}

"""A graph as a `networkx.DiGraph`, and as GraphML. Needs the extra `clew[exchange]`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from clew_spec.errors import Unavailable
from clew_spec.graph import Edge, GraphDocument, GraphSummary, Node

if TYPE_CHECKING:
    import networkx


def to_networkx(summary: GraphSummary, nodes: Iterable[Node], edges: Iterable[Edge]) -> "networkx.DiGraph[int]":
    """Nodes by their index with the fields of `clew_spec.graph.Node`, those that are null left out; edges from source
    to target with `weight` (signed) and `strength` (its absolute value, for algorithms that want no signs).

    Raises Unavailable where networkx is not installed.
    """
    try:
        import networkx
    except ImportError as error:
        raise missing("networkx") from error
    made: networkx.DiGraph[int] = networkx.DiGraph(
        prompt=summary.prompt, n_layers=summary.n_layers, replacement=summary.scores.replacement
    )
    for node in nodes:
        fields = node.model_dump(exclude={"id"}, exclude_none=True)
        made.add_node(node.id, **fields)
    for edge in edges:
        made.add_edge(edge.source, edge.target, weight=edge.weight, strength=abs(edge.weight))
    return made


def graphml(document: GraphDocument) -> str:
    """The picture of a graph as GraphML. Raises Unavailable where networkx is not installed."""
    made = to_networkx(document.summary, document.nodes, document.edges)
    import networkx

    for _, fields in made.nodes(data=True):
        fields["label"] = xml_text(fields["label"])
    made.graph["prompt"] = xml_text(made.graph["prompt"])
    return "\n".join(networkx.generate_graphml(made)) + "\n"


def xml_text(text: str) -> str:
    """What XML has no character for, shown as the replacement character."""
    return "".join(
        c if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "\ufffd"
        for c in text
    )


def missing(library: str) -> Unavailable:
    return Unavailable(f"{library} is not installed", hint="pip install 'clew[exchange]'")

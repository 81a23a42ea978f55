"""A whole graph as a `networkx.DiGraph`; of a picture alone, `clew_spec.exchange.networkx` makes one."""

from typing import TYPE_CHECKING

from clew.circuits.document import edges_of, nodes_of, summarise
from clew.circuits.graph import Graph
from clew_spec.exchange import networkx as of_picture

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph) -> "networkx.DiGraph[int]":
    """Every node and edge. Raises Unavailable where networkx is not installed."""
    nodes = nodes_of(graph, list(range(len(graph.nodes))))
    return of_picture.to_networkx(summarise(graph), nodes, edges_of(graph, slice(None)))

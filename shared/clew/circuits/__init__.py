"""Attribution graphs: nodes and edges, influence, paths, pruning, and how they are stored."""

from clew.circuits.document import document, summarise
from clew.circuits.graph import Edges, Graph, NodeKind, Nodes
from clew.circuits.influence import explained_share, node_influence, scores
from clew.circuits.paths import strongest_paths
from clew.circuits.pruning import Kept, picture, prune
from clew.circuits.storage import load_document, load_graph, save_graph

__all__ = [
    "Edges",
    "Graph",
    "Kept",
    "NodeKind",
    "Nodes",
    "document",
    "explained_share",
    "load_document",
    "load_graph",
    "node_influence",
    "picture",
    "prune",
    "save_graph",
    "scores",
    "strongest_paths",
    "summarise",
]

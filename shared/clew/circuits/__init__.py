"""Attribution graphs: how they are made and checked, influence, paths, pruning, and how they are stored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clew.circuits.document import document, summarise
from clew.circuits.graph import Edges, Graph, NodeKind, Nodes
from clew.circuits.influence import explained_share, node_influence, scores
from clew.circuits.paths import strongest_paths
from clew.circuits.pruning import Kept, picture, prune
from clew.circuits.storage import load_document, load_graph, save_graph

if TYPE_CHECKING:
    from clew.circuits.attribution import attribute
    from clew.circuits.verification import EdgeCheck, verify_edges

__all__ = [
    "EdgeCheck",
    "Edges",
    "Graph",
    "Kept",
    "NodeKind",
    "Nodes",
    "attribute",
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
    "verify_edges",
]

# These need a model, hence transformers, which takes seconds to import and which reading a graph does not need.
_LAZY = {"attribute": "attribution", "EdgeCheck": "verification", "verify_edges": "verification"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)

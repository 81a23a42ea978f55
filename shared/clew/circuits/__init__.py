"""Circuits: attribution graphs, what the weights alone connect, and interventions that try it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clew.circuits.document import document, summarise
from clew.circuits.graph import Edges, Graph, NodeKind, Nodes
from clew.circuits.influence import explained_share, node_influence, scores
from clew.circuits.paths import balance, find_paths, strongest_paths
from clew.circuits.pruning import Kept, picture, prune
from clew.circuits.storage import load_document, load_graph, save_graph

if TYPE_CHECKING:
    from clew.circuits.attribution import attribute
    from clew.circuits.connections import virtual_weights
    from clew.circuits.interventions import Edit, compare, continuation, intervene
    from clew.circuits.mean_edges import mean_edges
    from clew.circuits.patching import Patcher, patch
    from clew.circuits.splits import network_of, split_edge
    from clew.circuits.verification import EdgeCheck, verify_edges

__all__ = [
    "EdgeCheck",
    "Edges",
    "Edit",
    "Graph",
    "Kept",
    "NodeKind",
    "Nodes",
    "Patcher",
    "attribute",
    "balance",
    "compare",
    "continuation",
    "document",
    "explained_share",
    "find_paths",
    "intervene",
    "load_document",
    "load_graph",
    "mean_edges",
    "network_of",
    "node_influence",
    "patch",
    "picture",
    "prune",
    "save_graph",
    "scores",
    "split_edge",
    "strongest_paths",
    "summarise",
    "verify_edges",
    "virtual_weights",
]

# These need a model, hence transformers, which takes seconds to import and which reading a graph does not need.
_LAZY = {
    "attribute": "attribution",
    "virtual_weights": "connections",
    "Edit": "interventions",
    "compare": "interventions",
    "continuation": "interventions",
    "intervene": "interventions",
    "mean_edges": "mean_edges",
    "Patcher": "patching",
    "patch": "patching",
    "network_of": "splits",
    "split_edge": "splits",
    "EdgeCheck": "verification",
    "verify_edges": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)

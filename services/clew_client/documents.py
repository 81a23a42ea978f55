"""What a job's analysis left in full, as an artifact of a known form."""

from clew_spec.connections import ConnectionsDocument
from clew_spec.edges import EdgeDocument
from clew_spec.faithfulness import Faithfulness
from clew_spec.graph import GraphDocument
from clew_spec.jobs import JobKind
from clew_spec.mean_edges import MeanEdgesDocument
from clew_spec.patching import PatchDocument
from clew_spec.paths import PathsDocument
from clew_spec.qk import QKDocument

Document = (
    ConnectionsDocument
    | EdgeDocument
    | Faithfulness
    | GraphDocument
    | MeanEdgesDocument
    | PatchDocument
    | PathsDocument
    | QKDocument
)

DOCUMENTS: dict[JobKind, tuple[str, type[Document]]] = {
    "attribute": ("graph/graph.json", GraphDocument),
    "import-graph": ("graph/graph.json", GraphDocument),
    "faithfulness": ("faithfulness.json", Faithfulness),
    "edge": ("edge.json", EdgeDocument),
    "qk": ("qk.json", QKDocument),
    "mean-edges": ("mean-edges.json", MeanEdgesDocument),
    "patch": ("patch.json", PatchDocument),
    "connections": ("connections.json", ConnectionsDocument),
    "paths": ("paths.json", PathsDocument),
}
"""The artifact's name and its form."""

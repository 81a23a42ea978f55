"""What a job's analysis left in full, as an artifact of a known form."""

from clew_spec.connections import ConnectionsDocument
from clew_spec.faithfulness import Faithfulness
from clew_spec.graph import GraphDocument
from clew_spec.jobs import JobKind
from clew_spec.patching import PatchDocument
from clew_spec.paths import PathsDocument

Document = ConnectionsDocument | Faithfulness | GraphDocument | PatchDocument | PathsDocument

DOCUMENTS: dict[JobKind, tuple[str, type[Document]]] = {
    "attribute": ("graph/graph.json", GraphDocument),
    "import-graph": ("graph/graph.json", GraphDocument),
    "faithfulness": ("faithfulness.json", Faithfulness),
    "patch": ("patch.json", PatchDocument),
    "connections": ("connections.json", ConnectionsDocument),
    "paths": ("paths.json", PathsDocument),
}
"""The artifact's name and its form."""

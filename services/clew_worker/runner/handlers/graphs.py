"""A graph, however it was made, as a job's artifacts."""

from typing import Any

from clew import circuits
from clew.circuits.storage import DOCUMENT_FILE, GRAPH_FILE
from clew.files import digest_of, file_sha256
from clew_spec.results import GraphResult, Lineage
from clew_worker.runner.work import Work


def store_graph(work: Work[Any], graph: circuits.Graph, name: str, view_nodes: int, lineage: Lineage) -> GraphResult:
    document = circuits.document(graph, name, view_nodes)
    folder = work.out / "graph"
    circuits.save_graph(folder, graph, document)
    return GraphResult(
        name=name,
        digest=digest_of({file: file_sha256(folder / file) for file in (GRAPH_FILE, DOCUMENT_FILE)}),
        summary=document.summary,
        files=work.report.folder("graph", folder),
        lineage=lineage,
    )

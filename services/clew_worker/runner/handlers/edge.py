"""An edge of a stored graph, by head and position."""

from clew.circuits.splits import node_of, split_stored, strongest
from clew.circuits.storage import load_graph
from clew_spec.edges import EdgeSpec, read_node
from clew_spec.results import EdgeResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE = "edge.json"
SHORT = 50
"""Parts in the result; all are in the file."""


def edge(work: Work[EdgeSpec]) -> EdgeResult:
    graph = load_graph(work.inputs / "graph")
    source = node_of(graph, read_node(work.spec.source), "/spec/source")
    target = node_of(graph, read_node(work.spec.target), "/spec/target")
    found = split_stored(warm_model(work), load_coders(work), graph, source, target)
    record = work.job.records["graph"]
    return EdgeResult(
        name=record["name"],
        graph_digest=record["digest"],
        tokens=graph.tokens,
        split=strongest(found, SHORT),
        files=[work.document(FILE, found)],
        lineage=work.lineage(),
    )

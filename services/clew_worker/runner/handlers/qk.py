"""A head's score between two positions, by pairs of nodes."""

from clew.circuits.qk import qk_document, strongest
from clew.circuits.storage import load_graph
from clew_spec.connections import head_of
from clew_spec.qk import QKSpec
from clew_spec.results import QKResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE = "qk.json"
SHORT = 50
"""Pairs and nodes of either side in the result; all are in the file."""


def qk(work: Work[QKSpec]) -> QKResult:
    spec, graph, record = work.spec, load_graph(work.inputs / "graph"), work.job.records["graph"]
    found = qk_document(
        warm_model(work),
        load_coders(work),
        graph,
        *head_of(spec.head),
        spec.query,
        spec.key,
        spec.against,
        top=spec.top,
    )
    return QKResult(
        name=record["name"],
        graph_digest=record["digest"],
        tokens=graph.tokens,
        qk=strongest(found, SHORT),
        files=[work.document(FILE, found)],
        lineage=work.lineage(),
    )

"""The strongest paths of a stored graph, from its file alone."""

from clew.circuits.path_document import path_document, strongest
from clew.circuits.storage import load_graph
from clew_spec.paths import PathsSpec
from clew_spec.results import PathsResult
from clew_worker.runner.work import Work

FILE = "paths.json"
SHORT = 10
"""Paths in the result; all are in the file."""


def paths(work: Work[PathsSpec]) -> PathsResult:
    spec = work.spec
    work.report.progress("paths", 0, 1, "searches")
    found = path_document(
        load_graph(work.inputs / "graph"),
        spec.root,
        k=spec.paths,
        max_length=spec.max_length,
        through=spec.through,
        through_features=spec.through_features,
    )
    record = work.job.records["graph"]
    return PathsResult(
        name=record["name"],
        graph_digest=record["digest"],
        n_paths=len(found.paths),
        paths=strongest(found, SHORT),
        files=[work.document(FILE, found)],
        lineage=work.lineage(),
    )

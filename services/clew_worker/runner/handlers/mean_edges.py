"""The edges into a feature on held-out tokens."""

from clew.circuits.mean_edges import mean_edges as averaged
from clew.circuits.mean_edges import strongest
from clew.coders import require_whole
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.results import MeanEdgesResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.evaluate import heldout_rows
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE = "mean-edges.json"
SHORT = 50
"""Sources and tokens in the result; all are in the file."""


def mean_edges(work: Work[MeanEdgesSpec]) -> MeanEdgesResult:
    spec, model = work.spec, warm_model(work)
    rows, coders = heldout_rows(work, model), load_coders(work)
    require_whole(coders)
    found = averaged(
        model,
        coders,
        rows,
        spec.layer,
        spec.feature,
        tokens=spec.tokens,
        firings=spec.firings,
        cap=spec.capped,
        top=spec.top,
        dtype=work.dtype,
        report=work.report,
    )
    return MeanEdgesResult(
        mean_edges=strongest(found, SHORT), files=[work.document(FILE, found)], lineage=work.lineage()
    )

"""What the weights alone connect to one feature."""

from clew.circuits.feature_connections import feature_connections, summary
from clew_spec.connections import ConnectionsSpec, named_heads
from clew_spec.results import ConnectionsResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE = "connections.json"


def connections(work: Work[ConnectionsSpec]) -> ConnectionsResult:
    spec, model, coders = work.spec, warm_model(work), load_coders(work)
    found = feature_connections(
        model,
        coders,
        spec.layer,
        spec.feature,
        upstream=spec.upstream,
        downstream=spec.downstream,
        heads=named_heads(spec.heads, model.n_layers, model.anatomy.blocks[0].attention.n_heads),
        strongest_heads=spec.strongest_heads,
        tokens=spec.tokens,
        report=work.report,
    )
    return ConnectionsResult(
        name=work.coder_records[0]["name"],
        connections=summary(found),
        files=[work.document(FILE, found)],
        lineage=work.lineage(),
    )

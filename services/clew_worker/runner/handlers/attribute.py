"""A prompt into an attribution graph."""

from clew import circuits
from clew.circuits.attribution import attribute as attribution_graph
from clew.circuits.storage import DOCUMENT_FILE, GRAPH_FILE
from clew.files import digest_of, file_sha256
from clew_spec.attribution import AttributeSpec
from clew_spec.results import GraphResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.prompts import prompt_tokens, trained_bos
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work


def attribute(work: Work[AttributeSpec]) -> GraphResult:
    model, coders = warm_model(work), load_coders(work)
    bos = trained_bos(work, work.spec.bos)
    graph = attribution_graph(
        model,
        coders,
        prompt_tokens(model, work.spec.prompt, bos),
        max_logits=work.spec.max_logits,
        desired_logit_prob=work.spec.desired_logit_prob,
        max_nodes=work.spec.max_nodes,
        targets_per_sweep=work.spec.targets_per_sweep,
        dtype=work.dtype,
        prompt=work.spec.prompt,
        bos=bos,
        report=work.report,
    )
    document = circuits.document(graph, work.spec.name, work.spec.view_nodes)
    folder = work.out / "graph"
    circuits.save_graph(folder, graph, document)
    return GraphResult(
        name=work.spec.name,
        digest=digest_of({name: file_sha256(folder / name) for name in (GRAPH_FILE, DOCUMENT_FILE)}),
        summary=document.summary,
        files=work.report.folder("graph", folder),
        lineage=work.lineage(),
    )

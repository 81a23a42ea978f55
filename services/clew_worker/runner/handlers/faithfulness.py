"""A stored graph, tried out on its model."""

from clew.circuits.faithfulness import faithfulness as tried_out
from clew.circuits.storage import load_graph
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.results import FaithfulnessResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.prompts import prompt_tokens
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE = "faithfulness.json"


def faithfulness(work: Work[FaithfulnessSpec]) -> FaithfulnessResult:
    spec, model, graph = work.spec, warm_model(work), load_graph(work.inputs / "graph")
    found = tried_out(
        model,
        load_coders(work),
        graph,
        nodes=spec.nodes,
        edges=spec.edges,
        ablation=spec.ablation,
        paraphrases=[
            (text, prompt_tokens(model, text, graph.bos, f"/spec/paraphrases/{index}"))
            for index, text in enumerate(spec.paraphrases)
        ],
        top=spec.top,
        seed=spec.seed,
        report=work.report,
    )
    record = work.job.records["graph"]
    return FaithfulnessResult(
        name=record["name"],
        graph_digest=record["digest"],
        faithfulness=found,
        files=[work.document(FILE, found)],
        lineage=work.lineage(seed=spec.seed),
    )

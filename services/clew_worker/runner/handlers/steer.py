"""A prompt under edits of its features."""

import torch

from clew.circuits.attribution import text_of
from clew.circuits.steering import edit_of
from clew.circuits.steering import steer as steered
from clew.circuits.storage import load_graph
from clew_spec.results import SteerResult
from clew_spec.steering import SteerSpec
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.prompts import prompt_tokens, trained_bos
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work


def steer(work: Work[SteerSpec]) -> SteerResult:
    spec, model, coders = work.spec, warm_model(work), load_coders(work)
    graph = load_graph(work.inputs / "graph") if spec.graph is not None else None
    bos = trained_bos(work) if graph is None else graph.bos
    prompt = graph.prompt if graph is not None else str(spec.prompt)
    tokens_T = torch.tensor(graph.token_ids) if graph is not None else prompt_tokens(model, prompt, bos)
    found = steered(
        model,
        coders,
        tokens_T,
        [edit_of(edit) for edit in spec.edits],
        frozen=spec.frozen,
        n_tokens=spec.tokens,
        top=spec.top,
        graph=graph,
    )
    return SteerResult(
        prompt=prompt,
        tokens=[text_of(model, [token]) for token in tokens_T.tolist()],
        bos=bos,
        frozen=spec.frozen,
        next_tokens=found.next_tokens,
        kl=found.kl,
        activations=found.activations,
        text_before=text_of(model, found.continued_before) if spec.tokens else None,
        text_after=text_of(model, found.continued_after) if spec.tokens else None,
        prediction=found.prediction,
        lineage=work.lineage(),
    )

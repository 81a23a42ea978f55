"""A prompt into an attribution graph."""

from clew.circuits.attribution import attribute as attribution_graph
from clew.circuits.targets import Token
from clew.coders import require_whole
from clew.models import Model
from clew_spec.attribution import AttributeSpec, require_every_layer, token_ids
from clew_spec.results import GraphResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.graphs import store_graph
from clew_worker.runner.handlers.prompts import coding, prompt_tokens, trained_bos
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work


def attribute(work: Work[AttributeSpec]) -> GraphResult:
    model, coders = warm_model(work), load_coders(work)
    require_whole(coders)
    require_every_layer(work.spec, coders, model.n_layers)
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
        position_0=work.spec.position_0,
        targets=_targets(model, work.spec),
        prompt=work.spec.prompt,
        bos=bos,
        report=work.report,
    )
    return store_graph(work, graph, work.spec.name, work.spec.view_nodes, work.lineage())


def _targets(model: Model, spec: AttributeSpec) -> list[Token] | None:
    """None for the most likely tokens."""
    found = token_ids(spec, *coding(model))
    return None if found is None else [Token(token, found[1]) for token in found[0]]

"""A prompt into an attribution graph."""

import torch

from clew.circuits.attribution import attribute as attribution_graph
from clew.circuits.targets import Token
from clew.coders import require_whole
from clew.data import bos_token_id
from clew.models import Model
from clew_spec.attribution import MAX_PROMPT_TOKENS, AttributeSpec, require_every_layer, token_ids
from clew_spec.errors import InvalidSpec
from clew_spec.results import GraphResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.handlers.graphs import store_graph
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work


def attribute(work: Work[AttributeSpec]) -> GraphResult:
    model, coders = warm_model(work), load_coders(work)
    require_whole(coders)
    require_every_layer(work.spec, coders, model.n_layers)
    bos = _bos(work)
    graph = attribution_graph(
        model,
        coders,
        _tokens(model, work.spec.prompt, bos),
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


def _bos(work: Work[AttributeSpec]) -> str:
    """What the coders were trained with. Raises InvalidSpec where they disagree, or where the spec asks otherwise."""
    trained = sorted({str(record["config"]["bos"]) for record in work.coder_records})
    if len(trained) > 1:
        raise InvalidSpec(f"the coders were trained with different first tokens: {trained}", where="/spec/coders")
    if work.spec.bos not in (None, trained[0]):
        raise InvalidSpec(
            f"the coders were trained with bos = {trained[0]!r}, not {work.spec.bos!r}",
            where="/spec/bos",
            expected=repr(trained[0]),
        )
    return trained[0]


def _targets(model: Model, spec: AttributeSpec) -> list[Token] | None:
    """None for the most likely tokens."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    found = token_ids(
        spec,
        lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        lambda ids: str(tokenizer.decode(ids)),
    )
    return None if found is None else [Token(token, found[1]) for token in found[0]]


def _tokens(model: Model, prompt: str, bos: str) -> torch.Tensor:
    assert model.tokenizer is not None
    first = bos_token_id(model.tokenizer, bos)
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tokens = [*([] if first is None else [first]), *ids]
    most = min(MAX_PROMPT_TOKENS, model.max_context)
    if not ids or len(tokens) > most:
        raise InvalidSpec(
            f"the prompt has {len(tokens)} tokens", where="/spec/prompt", expected=f"between 1 and {most} tokens"
        )
    return torch.tensor(tokens)

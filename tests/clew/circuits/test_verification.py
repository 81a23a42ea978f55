"""Every edge, and every absence of one, confirmed by intervention; and a check that notices when they are wrong."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import dense, graph_of
from tests.clew.toys import toy_coders, toy_model, toy_tokens
from torch import Tensor

from clew.circuits.graph import Graph, NodeKind
from clew.circuits.verification import measure, verify_edges

KINDS: list[dict[str, Any]] = [
    {},
    {"tied": True, "n_kv_heads": 1},
    {"biases": True},
    {"biases": True, "n_kv_heads": 4, "n_layers": 4},
]


def sources_of(graph: Graph) -> Tensor:
    return (~graph.nodes.where(NodeKind.LOGIT)).nonzero()[:, 0]


@pytest.mark.parametrize("layers", [[0, 1, 2], [0, 2], []], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_doubling_any_source_moves_every_target_by_the_edge(kind: dict[str, Any], layers: list[int]) -> None:
    model = toy_model(**kind)
    coders = toy_coders(model, layers)
    for n_tokens in (1, 2, 6):
        tokens_T = toy_tokens(n_tokens, seed=n_tokens)
        graph = graph_of(model, coders, tokens_T)
        sources, targets = sources_of(graph), graph.edges.targets
        effects = measure(model, coders, graph, tokens_T, sources, targets)
        torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-11, rtol=0)
        assert effects.abs().max() > 0.1


def test_float32_edges_agree_with_the_float64_model() -> None:
    model = toy_model(dtype=torch.float32, biases=True)
    coders, tokens_T = toy_coders(model), toy_tokens(8)
    checks = verify_edges(model, coders, graph_of(model, coders, tokens_T), tokens_T, n=200)
    assert len(checks) == 200
    assert max(check.relative_error for check in checks) < 1e-3


def test_edges_are_drawn_at_random_above_the_share() -> None:
    model = toy_model()
    coders, tokens_T = toy_coders(model), toy_tokens(6)
    graph = graph_of(model, coders, tokens_T)
    shares = {
        (source, target): share
        for source, target, share in zip(
            graph.edges.sources.tolist(), graph.edges.target_of.tolist(), graph.edges.shares.tolist(), strict=True
        )
    }
    checks = verify_edges(model, coders, graph, tokens_T, n=30, min_share=0.02)
    drawn = {(check.source, check.target) for check in checks}
    assert len(drawn) == 30
    assert all(shares[edge] >= 0.02 for edge in drawn)
    assert max(check.relative_error for check in checks) < 1e-9
    again = verify_edges(model, coders, graph, tokens_T, n=30, min_share=0.02)
    other = verify_edges(model, coders, graph, tokens_T, n=30, min_share=0.02, seed=1)
    assert checks == again
    assert drawn != {(check.source, check.target) for check in other}


def test_wrong_edges_are_found_out() -> None:
    model = toy_model()
    coders, tokens_T = toy_coders(model), toy_tokens(6)
    graph = graph_of(model, coders, tokens_T)
    wrong = replace(graph, edges=replace(graph.edges, weights=graph.edges.weights * 1.01))
    checks = verify_edges(model, coders, wrong, tokens_T, n=10)
    assert all(check.relative_error == pytest.approx(0.01 / 1.01, rel=1e-6) for check in checks)


def test_the_freeze_is_what_makes_it_exact() -> None:
    """Without it the same doubling moves logits otherwise, so the agreement above is no accident."""
    model = toy_model()
    coders, tokens_T = toy_coders(model), toy_tokens(6)
    graph = graph_of(model, coders, tokens_T)
    first_token, logit = 3, int(graph.nodes.where(NodeKind.LOGIT).nonzero()[0])
    edge = dense(graph)[logit, first_token].item()

    def double(_module: Any, _args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, first_token] *= 2
        return output

    clean = model.hf(input_ids=tokens_T[None]).logits[0, -1]
    handle = model.anatomy.embed.register_forward_hook(double)
    moved = model.hf(input_ids=tokens_T[None]).logits[0, -1] - clean
    handle.remove()
    token = graph.targets[0].token_id
    assert abs((moved[token] - moved.mean()).item() - edge) > 1e-3


def test_the_model_itself_is_not_touched() -> None:
    model = toy_model()
    coders, tokens_T = toy_coders(model), toy_tokens(6)
    before = model.hf(input_ids=tokens_T[None]).logits
    graph = graph_of(model, coders, tokens_T)
    measure(model, coders, graph, tokens_T, torch.tensor([0]), graph.edges.targets)
    assert model.hf.config._attn_implementation == "eager"
    assert not any(module._forward_hooks for module in model.hf.modules())
    torch.testing.assert_close(model.hf(input_ids=tokens_T[None]).logits, before, atol=0, rtol=0)

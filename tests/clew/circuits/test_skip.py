"""A skip transcoder's linear path carries edges: it is neither a node nor an error."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import KINDS, _adds_up_from_outside, _points_forward, dense, graph_of
from tests.clew.toys import toy_coders, toy_model, toy_tokens

from clew.circuits.graph import NodeKind
from clew.circuits.verification import verify_edges
from clew.models import record
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], KINDS[11]], ids=str)
@pytest.mark.parametrize("layers", [[0, 1, 2], [1]], ids=str)
def test_edges_add_up_through_skip_paths(kind: dict[str, Any], layers: list[int]) -> None:
    model = toy_model(**kind)
    coders = toy_coders(model, layers, skip=True)
    for n_tokens in (1, 2, 7):
        tokens_T = toy_tokens(n_tokens, seed=n_tokens)
        graph = graph_of(model, coders, tokens_T)
        assert graph.conservation.max_relative_to_edges <= 1e-13
        _adds_up_from_outside(model, coders, tokens_T, graph)
        _points_forward(graph)


def test_the_error_is_what_features_and_skip_leave() -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    coders = toy_coders(model, [1], skip=True)
    coder, seen = coders[1], record(model.hf, model.anatomy, tokens_T).layers[1]
    graph = graph_of(model, coders, tokens_T)
    nodes = graph.nodes
    assert coder.W_skip is not None
    indices, values = coder.encode(seen.mlp_in_TD)
    for position in range(6):
        skipped = coder.W_skip @ seen.mlp_in_TD[position]
        written = values[position] @ coder.W_dec[indices[position]] + coder.b_dec + skipped
        left = seen.mlp_out_TD[position] - (written if position else 0)
        node = nodes.where(NodeKind.ERROR) & (nodes.layer == 1) & (nodes.position == position)
        assert nodes.value[node].item() == pytest.approx(left.norm().item(), rel=1e-10)


def test_a_skip_path_equal_to_nothing_changes_nothing_and_another_does() -> None:
    model, tokens_T = toy_model(), toy_tokens(5)
    plain = toy_coders(model)
    without = dense(graph_of(model, plain, tokens_T))
    zero = {layer: replace(coder, W_skip=torch.zeros(24, 24, dtype=torch.float64)) for layer, coder in plain.items()}
    torch.testing.assert_close(dense(graph_of(model, zero, tokens_T)), without, rtol=1e-12, atol=1e-13)
    eye = {layer: replace(coder, W_skip=torch.eye(24, dtype=torch.float64)) for layer, coder in plain.items()}
    assert (dense(graph_of(model, eye, tokens_T)) - without).abs().max() > 1e-2


@pytest.mark.parametrize("biases", [False, True])
def test_edges_are_what_an_intervention_moves(biases: bool) -> None:
    model, tokens_T = toy_model(biases=biases), toy_tokens(7)
    coders = toy_coders(model, skip=True)
    checks = verify_edges(model, coders, graph_of(model, coders, tokens_T), tokens_T, n=200)
    assert len(checks) == 200
    assert max(check.relative_error for check in checks) < 1e-6


def test_a_coder_that_is_no_transcoder_is_refused() -> None:
    model, tokens_T = toy_model(), toy_tokens(5)
    coders = toy_coders(model)
    coders[1].hooks = ("mlp.out", "mlp.out")
    with pytest.raises(InvalidSpec, match=r"layer 1 reads mlp\.out and writes mlp\.out") as caught:
        graph_of(model, coders, tokens_T)
    assert caught.value.where == "/spec/coders"

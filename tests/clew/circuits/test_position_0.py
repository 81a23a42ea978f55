"""The three rules for position 0; that by which it is left out is circuit-tracer's."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from tests.clew.circuits.test_attribution import dense, graph_of
from tests.clew.circuits.test_families import _detached_pass
from tests.clew.circuits.test_verification import sources_of
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens

from clew.circuits import balance, find_paths, scores
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.interventions import Edit, compare, intervene
from clew.circuits.verification import measure
from clew.models import Model, record
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Position0

pytestmark = pytest.mark.science

TOKENS_T = toy_tokens(7)


@pytest.mark.parametrize("family", FAMILIES)
def test_where_coders_apply_position_0_is_like_any_other(family: str) -> None:
    model = family_model(family)
    coders = toy_coders(model, cross=True, skip=True)
    graph = graph_of(model, coders, TOKENS_T, position_0="features")
    assert graph.conservation.max_relative_to_edges <= 1e-12
    nodes, targets = graph.nodes, graph.edges.targets
    seen = record(model.hf, model.anatomy, TOKENS_T)
    for layer in range(LAYERS):
        ids, z = coders[layer].encode(seen.layers[layer].mlp_in_TD[:1])
        here = nodes.where(NodeKind.FEATURE) & (nodes.layer == layer) & (nodes.position == 0)
        assert sorted(nodes.feature[here].tolist()) == sorted(ids[z > 0].tolist())
    final = nodes.where(NodeKind.BIAS) & (nodes.layer == LAYERS)
    sources = sources_of(graph)[~final[sources_of(graph)]]
    effects = measure(model, coders, graph, TOKENS_T, sources, targets)
    torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-10, rtol=0)

    first = int((nodes.where(NodeKind.FEATURE) & (nodes.position == 0)).nonzero()[0])
    edit = Edit(int(nodes.layer[first]), int(nodes.feature[first]), 0, "scale", 3.0)
    found = compare(model, coders, graph, [edit], frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)
    assert found.predicted.abs().max() > 1e-3
    with pytest.raises(InvalidSpec, match="position 0 of 7"):
        intervene(model, coders, TOKENS_T, [edit], frozen=False)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_left_out_edges_are_those_of_circuit_tracer(family: str, skip: bool) -> None:
    """Its definition, by autograd: features and errors of position 0 are zero, gradients pass skip paths everywhere."""
    model = family_model(family)
    coders = toy_coders(model, skip=skip)
    graph = graph_of(model, coders, TOKENS_T, position_0="left-out")
    nodes, matrix = graph.nodes, dense(graph)
    kinds = (NodeKind.TOKEN, NodeKind.FEATURE, NodeKind.ERROR)
    columns = nodes.where(*kinds).nonzero()[:, 0].tolist()
    silent = nodes.where(NodeKind.ERROR) & (nodes.position == 0)
    assert int(silent.sum()) == LAYERS
    assert not (matrix[:, silent] != 0).any()
    if skip:
        _skips_pass_at_position_0(model, coders, graph)
        return
    leaves, mlp_in, logits_V = _detached_pass(model)
    outs = [leaf[0].detach() for leaf in leaves[2:]]
    for target in graph.edges.targets.tolist()[::4] + graph.edges.targets.tolist()[-2:]:
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        if nodes.kind[target] == NodeKind.LOGIT:
            value = logits_V[nodes.token_id[target]] - logits_V.mean()
        else:
            value = mlp_in[layer][position] @ coders[layer].W_enc[int(nodes.feature[target])]
        grads = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
        for source in columns:
            layer, position = int(nodes.layer[source]), int(nodes.position[source])
            if nodes.kind[source] == NodeKind.TOKEN:
                written = leaves[0][0, position].detach()
            elif position == 0:
                written = torch.zeros(24, dtype=torch.float64)
            elif nodes.kind[source] == NodeKind.FEATURE:
                written = nodes.value[source] * coders[layer].W_dec[int(nodes.feature[source])]
            else:
                here = nodes.where(NodeKind.FEATURE) & (nodes.layer == layer) & (nodes.position == position)
                features = nodes.value[here] @ coders[layer].W_dec[nodes.feature[here].long()]
                written = outs[layer][position] - features - coders[layer].b_dec
            grad = grads[0 if layer < 0 else layer + 2][0, position]
            assert matrix[target, source].item() == pytest.approx(float(grad @ written), abs=1e-10)


def _skips_pass_at_position_0(model: Model, coders: Mapping[int, ToyCoder], graph: Graph) -> None:
    """All that is kept is what doubling a source moves, the first token through the skip paths of its own position."""
    nodes, targets = graph.nodes, graph.edges.targets
    final = nodes.where(NodeKind.BIAS) & (nodes.layer == LAYERS)
    silent = nodes.where(NodeKind.ERROR) & (nodes.position == 0)
    sources = (~nodes.where(NodeKind.LOGIT) & ~final & ~silent).nonzero()[:, 0]
    effects = measure(model, coders, graph, TOKENS_T, sources, targets)
    torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-10, rtol=0)
    closed = dense(graph_of(model, coders, TOKENS_T))
    assert (closed - dense(graph))[:, 0].abs().max() > 1e-3, "as an error it lets nothing through"


def test_what_is_left_out_is_all_that_is_missing() -> None:
    model = family_model("gpt2")
    coders = toy_coders(model)
    whole = graph_of(model, coders, TOKENS_T)
    without = graph_of(model, coders, TOKENS_T, position_0="left-out")
    nodes, kept = whole.nodes, dense(whole)
    kept[:, nodes.where(NodeKind.ERROR) & (nodes.position == 0)] = 0
    torch.testing.assert_close(dense(without), kept, atol=0, rtol=0)
    assert without.conservation == whole.conservation
    assert scores(whole).error_parts.position_0 > 1e-3
    assert scores(without).error_parts.position_0 == 0

    # It is no bias of what it is missing from: with the rest, the parts are all the same.
    paths = find_paths(without, 40).paths
    missing = dense(whole).sum(1) - dense(without).sum(1)
    for left, closed in zip(balance(without, paths), balance(whole, paths), strict=True):
        assert (left.bias, left.kept) == (closed.bias, closed.kept)
        assert left.rest - closed.rest == pytest.approx(float(missing[left.node]), abs=1e-12)
    assert missing.abs().max() > 1e-3


@pytest.mark.parametrize("rule", ["error", "features", "left-out"])
@pytest.mark.parametrize("seed", range(3))
def test_no_score_rises_under_a_cap_of_nodes(rule: Position0, seed: int) -> None:
    model = family_model("llama")
    tokens_T = toy_tokens(7, seed=seed)
    coders = toy_coders(model, seed=seed, cross=seed == 2)
    n_active = graph_of(model, coders, tokens_T, position_0=rule).n_active
    caps = sorted({0, 1, 2, 5, 13, 29, 61, n_active // 2, n_active - 1, n_active})
    found = []
    for cap in caps:
        graph = graph_of(model, coders, tokens_T, position_0=rule, max_nodes=cap, targets_per_sweep=9)
        found.append(scores(graph))
    for fewer, more in itertools.pairwise(found):
        assert fewer.replacement <= more.replacement + 1e-12
        assert fewer.completeness <= more.completeness + 1e-12
        assert fewer.error_share >= more.error_share - 1e-12
    assert found[0].replacement < found[-1].replacement

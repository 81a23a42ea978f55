"""The weights alone, against the attribution graph's edges and against matrices written out."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import dense, graph_of
from tests.clew.families import FAMILIES, family_hf, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens
from torch import Tensor

from clew.circuits import connections as module
from clew.circuits.connections import (
    de_embedding,
    direct_logit_effect,
    logit_reading,
    ov_norms,
    promoted_tokens,
    pullback,
    reading,
    strongest,
    through_head,
    virtual_weights,
    vocabulary,
)
from clew.circuits.graph import Graph, NodeKind
from clew.models import Model, prepare_model, record
from clew_spec.errors import InvalidSpec

TOKENS_T = toy_tokens(6)
_MODELS: dict[str, Model] = {}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    if request.param not in _MODELS:
        _MODELS[request.param] = family_model(request.param)
    return _MODELS[request.param]


def features_at(graph: Graph, layer: int) -> list[tuple[int, int, int, float]]:
    """(node, position, feature, activation)"""
    nodes = graph.nodes
    here = (nodes.where(NodeKind.FEATURE) & (nodes.layer == layer)).nonzero()[:, 0]
    columns = (here, nodes.position[here], nodes.feature[here], nodes.value[here])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def by_hand(norm: Any, f_ND: Tensor) -> Tensor:
    """P diag(gain) f, with the gain as Hugging Face's module applies it."""
    weight = norm.module.weight
    gain = weight + (1 if "Gemma" in type(norm.module).__name__ or getattr(norm.module, "offset", False) else 0)
    d = len(weight)
    P = torch.eye(d, dtype=f_ND.dtype)
    if isinstance(norm.module, torch.nn.LayerNorm):
        P = P - 1 / d
    return torch.as_tensor(f_ND @ torch.diag(gain) @ P)


def test_what_is_read_and_de_embedded_equals_the_matrices_written_out(model: Model) -> None:
    coder = toy_coders(model)[1]
    f_ND = reading(model, coder)
    torch.testing.assert_close(f_ND, by_hand(model.anatomy.blocks[1].mlp_norm, coder.W_enc), atol=1e-12, rtol=0)
    embedded_VD = torch.stack([record(model.hf, model.anatomy, torch.tensor([t])).embed_TD[0] for t in range(61)])
    torch.testing.assert_close(vocabulary(model), embedded_VD, atol=0, rtol=0)
    expected_NV = f_ND @ embedded_VD.T
    torch.testing.assert_close(pullback(f_ND, vocabulary(model)), expected_NV, atol=1e-12, rtol=0)
    top = de_embedding(model, f_ND, 9)
    assert top.indices_NK.equal(expected_NV.abs().argsort(dim=-1, descending=True)[:, :9])
    torch.testing.assert_close(top.values_NK, expected_NV.gather(-1, top.indices_NK), atol=1e-12, rtol=0)
    assert (top.values_NK < 0).any()
    assert reading(model, coder, [7, 3]).equal(f_ND[[7, 3]])


def test_adjacent_edges_are_the_direct_weight_and_the_parts_of_the_heads(model: Model) -> None:
    """Weights, activation, pattern and scales multiply to the graph's edges, whatever the family; heads add up."""
    coders = toy_coders(model)
    graph = graph_of(model, coders, TOKENS_T)
    matrix, seen = dense(graph), record(model.hf, model.anatomy, TOKENS_T)
    block, here = model.anatomy.blocks[2], seen.layers[2]
    f_ND = reading(model, coders[2])
    direct_NF = pullback(f_ND, coders[1].W_dec)
    heads_HNF = torch.stack([pullback(through_head(model, f_ND, 2, h), coders[1].W_dec) for h in range(4)])
    checked = 0
    for target, to, target_feature, _ in features_at(graph, 2):
        for source, at, feature, z in features_at(graph, 1):
            expected = direct_NF[target_feature, feature] * (to == at)
            if not block.parallel:
                passed = here.pattern_HTT[:, to, at] @ heads_HNF[:, target_feature, feature] * here.attn_scale_T1[at]
                if here.attn_post_scale_T1 is not None:
                    passed = passed * here.attn_post_scale_T1[to]
                expected = expected + passed
            edge = z * expected * here.mlp_scale_T1[to]
            assert matrix[target, source].item() == pytest.approx(edge.item(), abs=1e-11)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_attention_silenced_every_edge_is_the_virtual_weight(family: str, cross: bool) -> None:
    hf = family_hf(family)
    for name, weight in hf.named_parameters():
        if any(part in name for part in ("o_proj", "attention.dense", "attn.c_proj")):
            weight.data.zero_()
    model = prepare_model(hf)
    coders = toy_coders(model, cross=cross)
    graph = graph_of(model, coders, TOKENS_T)
    matrix, seen = dense(graph), record(model.hf, model.anatomy, TOKENS_T)
    for low, high in ((0, 1), (0, 2), (1, 2)):
        found = virtual_weights(model, coders[low], coders[high], k=40)
        V_NF = torch.zeros(40, 40, dtype=torch.float64).scatter(1, found.indices_NK, found.values_NK)
        for target, to, target_feature, _ in features_at(graph, high):
            for source, at, feature, z in features_at(graph, low):
                edge = z * V_NF[target_feature, feature] * seen.layers[high].mlp_scale_T1[to] * (to == at)
                assert matrix[target, source].item() == pytest.approx(edge.item(), abs=1e-11)


@pytest.mark.parametrize("cross", [False, True])
def test_the_last_layers_edges_into_logits_are_the_direct_logit_effect(model: Model, cross: bool) -> None:
    coders = toy_coders(model, cross=cross)
    graph = graph_of(model, coders, TOKENS_T)
    matrix, seen = dense(graph), record(model.hf, model.anatomy, TOKENS_T)
    effect_FV = direct_logit_effect(model, coders[2])
    torch.testing.assert_close(effect_FV.mean(-1), torch.zeros(40, dtype=torch.float64), atol=1e-12, rtol=0)
    logits = graph.nodes.where(NodeKind.LOGIT).nonzero()[:, 0].tolist()
    for node, target in zip(logits, graph.targets, strict=True):
        for source, at, feature, z in features_at(graph, 2):
            edge = z * effect_FV[feature, target.token_id] * seen.final_scale_T1[-1] * (at == 5)
            assert matrix[node, source].item() == pytest.approx(edge.item(), abs=1e-11)
    top = promoted_tokens(model, coders[2], 5, [4, 9])
    assert top.indices_NK.equal(effect_FV[[4, 9]].abs().argsort(dim=-1, descending=True)[:, :5])
    torch.testing.assert_close(
        pullback(logit_reading(model, [8, 3]), coders[2].W_dec), effect_FV[:, [8, 3]].T, atol=1e-12, rtol=0
    )
    difference = effect_FV[:, 8] - effect_FV[:, 3]
    torch.testing.assert_close(
        pullback(logit_reading(model, [8], [3]), coders[2].W_dec)[0], difference, atol=1e-12, rtol=0
    )


def test_all_that_a_cross_layer_feature_writes_reaches_the_logits_and_what_is_below_reaches_a_head(
    model: Model,
) -> None:
    coders = toy_coders(model, cross=True)
    highest = 1 if model.anatomy.blocks[2].parallel else 2
    parts_LFD = torch.stack([coders[0].W_dec, coders[0].W_later[1], coders[0].W_later[2]])
    whole = toy_coders(model)[0]
    alone = [direct_logit_effect(model, replace(whole, W_dec=part_FD)) for part_FD in parts_LFD]
    torch.testing.assert_close(direct_logit_effect(model, coders[0]), torch.stack(alone).sum(0), atol=1e-11, rtol=0)
    found = virtual_weights(model, coders[0], coders[2], k=40, through=[(highest, 3)])
    written_FD = parts_LFD[:highest].sum(0)
    expected = reading(model, coders[2]) @ _ov(model, highest, 3) @ written_FD.T
    torch.testing.assert_close(found.values_NK, expected.gather(-1, found.indices_NK), atol=1e-11, rtol=0)


def _ov(model: Model, layer: int, head: int) -> Tensor:
    """[D, D]: from the residual stream before the head to what it adds, scales left out."""
    block = model.anatomy.blocks[layer]
    attention = block.attention
    identity = torch.eye(24, dtype=torch.float64)
    W_V = by_hand(block.attn_norm, attention.W_V_KED[head // attention.group])
    W_O = attention.W_O_DHE[:, head]
    post = identity if block.attn_post_norm is None else by_hand(block.attn_post_norm, identity).T
    return torch.as_tensor(post @ W_O @ W_V)


def test_heads_chain_and_their_norms_are_those_of_the_products(model: Model) -> None:
    coders = toy_coders(model)
    # the last layer a head can be in and still feed layer 2: in a parallel block the one before
    highest = 1 if model.anatomy.blocks[2].parallel else 2
    found = virtual_weights(model, coders[0], coders[2], k=40, features=[5, 6], through=[(highest, 3)])
    expected = reading(model, coders[2])[[5, 6]] @ _ov(model, highest, 3) @ coders[0].W_dec.T
    torch.testing.assert_close(found.values_NK, expected.gather(-1, found.indices_NK), atol=1e-11, rtol=0)
    chained = through_head(model, through_head(model, reading(model, coders[2]), 2, 1), 1, 2)
    torch.testing.assert_close(
        chained, reading(model, coders[2]) @ _ov(model, 2, 1) @ _ov(model, 1, 2), atol=1e-11, rtol=0
    )
    norms = torch.stack([torch.stack([_ov(model, i, h).norm() for h in range(4)]) for i in range(3)])
    torch.testing.assert_close(ov_norms(model), norms, atol=1e-11, rtol=0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("llama")
    coders: dict[int, ToyCoder] = toy_coders(model)
    f_ND = reading(model, coders[2])
    whole = strongest(f_ND, coders[0].W_dec, 7)
    monkeypatch.setattr(module, "CHUNK", 130)
    parts = strongest(f_ND, coders[0].W_dec, 7)
    assert parts.indices_NK.equal(whole.indices_NK)
    torch.testing.assert_close(parts.values_NK, whole.values_NK, atol=1e-14, rtol=0)
    assert strongest(f_ND, coders[0].W_dec, 1000).indices_NK.shape == (40, 40)


@pytest.mark.parametrize(
    ("family", "source", "target", "through", "match"),
    [
        ("llama", 1, 1, [], "not read at layer 1"),
        ("llama", 2, 0, [], "not read at layer 0"),
        ("llama", 0, 2, [(0, 1)], "head of layer 0"),
        ("llama", 0, 1, [(2, 1)], "head of layer 2"),
        ("llama", 0, 2, [(2, 0), (1, 0)], "head of layer 1"),
        ("llama", 0, 2, [(1, 4)], "no head 4"),
        ("neox-parallel", 0, 2, [(2, 0)], "head of layer 2"),
    ],
)
def test_routes_that_do_not_exist_are_refused(
    family: str, source: int, target: int, through: list[tuple[int, int]], match: str
) -> None:
    model = family_model(family)
    coders = toy_coders(model)
    with pytest.raises(InvalidSpec, match=match):
        virtual_weights(model, coders[source], coders[target], k=3, through=through)

"""A feature of a cross-layer transcoder is one node whose edges add up what it writes to every layer."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import KINDS, _adds_up_from_outside, _points_forward, dense, graph_of
from tests.clew.circuits.test_verification import sources_of
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_model, toy_tokens

from clew.circuits import sweep as sweep_module
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.interventions import Edit, compare, intervene
from clew.circuits.verification import measure, verify_edges
from clew.models import record
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science


def some_edits(graph: Graph, layers: tuple[int, ...] = (0, 1)) -> list[Edit]:
    """One feature of each of the layers tripled."""
    nodes, edits = graph.nodes, []
    for layer in layers:
        node = int((nodes.where(NodeKind.FEATURE) & (nodes.layer == layer)).nonzero()[2])
        edits.append(Edit(layer, int(nodes.feature[node]), int(nodes.position[node]), "scale", 3.0))
    return edits


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], KINDS[11]], ids=str)
@pytest.mark.parametrize("layers", [[0, 1, 2, 3], [0, 2, 3], [1, 3]], ids=str)
def test_edges_add_up_and_point_forward(kind: dict[str, Any], layers: list[int], skip: bool) -> None:
    model = toy_model(n_layers=4, **kind)
    coders = toy_coders(model, layers, cross=True, skip=skip)
    for n_tokens in (1, 2, 7):
        tokens_T = toy_tokens(n_tokens, seed=n_tokens)
        graph = graph_of(model, coders, tokens_T)
        assert graph.conservation.max_relative_to_edges <= 1e-12
        _adds_up_from_outside(model, coders, tokens_T, graph)
        _points_forward(graph)


def test_a_feature_is_one_node_and_the_error_is_what_all_layers_leave() -> None:
    model, tokens_T = toy_model(n_layers=4, biases=True), toy_tokens(6)
    coders = toy_coders(model, cross=True)
    graph = graph_of(model, coders, tokens_T)
    nodes, seen = graph.nodes, record(model.hf, model.anatomy, tokens_T)
    features = nodes.where(NodeKind.FEATURE)
    names = set(zip(*(x[features].tolist() for x in (nodes.layer, nodes.position, nodes.feature)), strict=True))
    assert len(names) == int(features.sum())
    spoken = {layer: coder.encode(seen.layers[layer].mlp_in_TD) for layer, coder in coders.items()}
    for layer in range(4):
        left_TD = seen.layers[layer].mlp_out_TD - coders[layer].b_dec
        for own in range(layer + 1):
            decoder = coders[own].W_dec if own == layer else coders[own].W_later[layer]
            ids, z = spoken[own]
            left_TD = left_TD - torch.stack([z[t] @ decoder[ids[t]] for t in range(6)])
        left_TD[0] = seen.layers[layer].mlp_out_TD[0]
        errors = nodes.where(NodeKind.ERROR) & (nodes.layer == layer)
        torch.testing.assert_close(nodes.value[errors], left_TD.norm(dim=-1), atol=1e-11, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_doubling_any_source_moves_every_target_by_its_edge(family: str) -> None:
    model, tokens_T = family_model(family), toy_tokens(7)
    coders = toy_coders(model, cross=True)
    graph = graph_of(model, coders, tokens_T)
    assert graph.conservation.max_relative_to_edges <= 1e-12
    final_bias = graph.nodes.where(NodeKind.BIAS) & (graph.nodes.layer == LAYERS)
    sources = sources_of(graph)[~final_bias[sources_of(graph)]]
    targets = graph.edges.targets
    effects = measure(model, coders, graph, tokens_T, sources, targets)
    torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-10, rtol=0)
    found = compare(model, coders, graph, some_edits(graph), frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)
    assert found.predicted.abs().max() > 0.1


def test_only_the_layers_below_a_target_reach_it() -> None:
    """What a feature writes at a target's own layer and above it is in no edge to it, and moves nothing there."""
    model, tokens_T = toy_model(n_layers=4), toy_tokens(6)
    coders = toy_coders(model, cross=True)
    nodes, before = (graph := graph_of(model, coders, tokens_T)).nodes, dense(graph)
    first = coders[0]
    coders[0] = replace(first, W_later={**first.W_later, 2: first.W_later[2] * -3})
    after = dense(graph_of(model, coders, tokens_T))
    features = nodes.where(NodeKind.FEATURE)
    source, low = features & (nodes.layer == 0), features & (nodes.layer <= 2)
    high = (features & (nodes.layer == 3)) | nodes.where(NodeKind.LOGIT)
    torch.testing.assert_close(after[low][:, source], before[low][:, source], atol=1e-12, rtol=0)
    assert (after[high][:, source] - before[high][:, source]).abs().max() > 1e-2


def test_decoders_of_zero_for_later_layers_make_per_layer_transcoders() -> None:
    model, tokens_T = toy_model(biases=True), toy_tokens(6)
    plain = toy_coders(model)
    zero = {
        layer: replace(coder, W_later={later: torch.zeros_like(coder.W_dec) for later in range(layer + 1, 3)})
        for layer, coder in plain.items()
    }
    torch.testing.assert_close(
        dense(graph_of(model, zero, tokens_T)), dense(graph_of(model, plain, tokens_T)), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize(("targets_per_sweep", "tile"), [(1, 128), (7, 128), (10_000, 3)])
def test_batches_and_tiles_change_nothing(targets_per_sweep: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens_T = toy_model(biases=True), toy_tokens(6)
    coders = toy_coders(model, cross=True, skip=True)
    expected = dense(graph_of(model, coders, tokens_T, targets_per_sweep=10_000))
    monkeypatch.setattr(sweep_module, "TILE_TARGETS", tile)
    found = dense(graph_of(model, coders, tokens_T, targets_per_sweep=targets_per_sweep))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_forgotten_layer_would_be_found_out() -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    coders = toy_coders(model, cross=True)
    graph = graph_of(model, coders, tokens_T)
    right = verify_edges(model, coders, graph, tokens_T, n=100)
    assert max(check.relative_error for check in right) < 1e-7
    forgetful: dict[int, ToyCoder] = {layer: replace(coder, W_later={}) for layer, coder in coders.items()}
    wrong = verify_edges(model, forgetful, graph, tokens_T, n=100)
    assert max(check.relative_error for check in wrong) > 0.1


def test_a_free_edit_writes_to_every_later_layer() -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    coders = toy_coders(model, cross=True)
    (edit,) = some_edits(graph_of(model, coders, tokens_T), (0,))
    position = edit.positions(6)[0]
    seen = record(model.hf, model.anatomy, tokens_T).layers[0].mlp_in_TD
    ids, z = coders[0].encode(seen)
    change = 2.0 * float(z[position][ids[position] == edit.feature])
    decoders = {0: coders[0].W_dec, **coders[0].W_later}

    def writes(vector_D: torch.Tensor) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> Any:
            output = output.clone()
            output[0, position] += vector_D
            return output

        return hook

    blocks = model.anatomy.blocks
    handles = [
        blocks[k].mlp_writer.register_forward_hook(writes(change * W[edit.feature])) for k, W in decoders.items()
    ]
    with torch.inference_mode():
        expected = model.hf(input_ids=tokens_T[None], use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    effect = intervene(model, coders, tokens_T, [edit], frozen=False)
    torch.testing.assert_close(effect.after.logits_TV, expected, atol=1e-9, rtol=0)


def test_a_part_is_refused() -> None:
    model, tokens_T = toy_model(), toy_tokens(4)
    coders = toy_coders(model, cross=True)
    for missing in (1, 2):
        part = {layer: coder for layer, coder in coders.items() if layer != missing}
        with pytest.raises(InvalidSpec, match=rf"layer 0 also write to the layers \[{missing}\]") as refused:
            graph_of(model, part, tokens_T)
        assert refused.value.where == "/spec/coders"

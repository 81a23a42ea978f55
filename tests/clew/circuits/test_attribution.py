"""The laws of the sweep: edges add up, point forward, and do not depend on how they were computed."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clew.toys import ToyCoder, toy_coders, toy_hf, toy_model, toy_tokens
from torch import Tensor, nn

from clew.circuits import attribution as attribution_module
from clew.circuits import sweep as sweep_module
from clew.circuits.attribution import attribute
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import Graph, NodeKind
from clew.models import Model, prepare_model, record
from clew.reporting import Silent, StopRequested
from clew_spec.errors import InvalidSpec

KINDS: list[dict[str, Any]] = [
    {"n_kv_heads": kv, "tied": tied, "biases": biases}
    for kv, tied, biases in itertools.product([1, 2, 4], [False, True], [False, True])
]


def graph_of(model: Model, coders: Mapping[int, ToyCoder], tokens_T: Tensor, **options: Any) -> Graph:
    defaults: dict[str, Any] = {
        "max_logits": 4,
        "desired_logit_prob": 0.95,
        "max_nodes": 10_000,
        "targets_per_sweep": 64,
        "dtype": model.dtype,
        "report": Silent(),
    }
    graph = attribute(model, coders, tokens_T, **(defaults | options))
    graph.validate()
    return graph


def dense(graph: Graph) -> Tensor:
    """Edges as a matrix [targets, sources] over all nodes."""
    matrix = torch.zeros(len(graph.nodes), len(graph.nodes), dtype=graph.edges.weights.dtype)
    matrix[graph.edges.target_of, graph.edges.sources.long()] = graph.edges.weights
    return matrix


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("layers", [[0, 1, 2], [1], [0, 2], []], ids=str)
def test_edges_add_up_and_point_forward(kind: dict[str, Any], layers: list[int]) -> None:
    model = toy_model(**kind)
    coders = toy_coders(model, layers)
    for n_tokens in (1, 2, 7):
        tokens_T = toy_tokens(n_tokens, seed=n_tokens)
        graph = graph_of(model, coders, tokens_T)
        assert graph.conservation.max_relative_to_edges <= 1e-13
        assert graph.conservation.nodes == len(graph.edges.targets) == graph.n_active + len(graph.targets)
        _adds_up_from_outside(model, coders, tokens_T, graph)
        _points_forward(graph)


def _adds_up_from_outside(model: Model, coders: Mapping[int, ToyCoder], tokens_T: Tensor, graph: Graph) -> None:
    """The same law with the values taken from the model here, not from the graph's own account of itself."""
    seen = record(model.hf, model.anatomy, tokens_T)
    nodes, sums = graph.nodes, dense(graph).sum(1)
    for target in graph.edges.targets.tolist():
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        if nodes.kind[target] == NodeKind.LOGIT:
            logits_V = seen.logits_TV[-1]
            expected = logits_V[nodes.token_id[target]] - logits_V.mean()
            assert nodes.value[target].item() == pytest.approx(expected.item(), abs=1e-11)
        else:
            coder, feature = coders[layer], int(nodes.feature[target])
            expected = seen.layers[layer].mlp_in_TD[position] @ coder.W_enc[feature]
            activation = (expected + coder.b_enc[feature]).item()
            assert nodes.value[target].item() == pytest.approx(activation, abs=1e-11)
        assert sums[target].item() == pytest.approx(expected.item(), abs=1e-11)


def _points_forward(graph: Graph) -> None:
    nodes = graph.nodes
    source, target = graph.edges.sources.long(), graph.edges.target_of
    assert (nodes.position[source] <= nodes.position[target]).all()
    written_by_mlp = nodes.where(NodeKind.FEATURE, NodeKind.ERROR)[source]
    assert (nodes.layer[source] < nodes.layer[target])[written_by_mlp].all()
    assert (nodes.layer[source] <= nodes.layer[target]).all()


def test_position_0_and_layers_without_a_coder_are_one_error_each() -> None:
    model, tokens_T = toy_model(biases=True), toy_tokens(6)
    graph = graph_of(model, toy_coders(model, [1]), tokens_T)
    nodes, seen = graph.nodes, record(model.hf, model.anatomy, tokens_T)
    features, errors = nodes.where(NodeKind.FEATURE), nodes.where(NodeKind.ERROR)
    assert set(nodes.layer[features].tolist()) == {1}
    assert nodes.position[features].min() == 1
    assert errors.sum() == 3 * 6
    for layer, position in itertools.product(range(3), range(6)):
        node = errors & (nodes.layer == layer) & (nodes.position == position)
        whole = seen.layers[layer].mlp_out_TD[position].norm().item()
        if layer != 1 or position == 0:
            assert nodes.value[node].item() == pytest.approx(whole, rel=1e-12)
        else:
            assert abs(nodes.value[node].item() - whole) > 1e-3


def test_without_biases_there_are_no_bias_nodes_but_the_decoders() -> None:
    tokens_T = toy_tokens(5)
    plain = toy_model()
    none = graph_of(plain, toy_coders(plain, biases=False), tokens_T)
    assert not none.nodes.where(NodeKind.BIAS).any()
    decoders = graph_of(plain, toy_coders(plain, [0, 1]), tokens_T).nodes
    bias = decoders.where(NodeKind.BIAS)
    assert set(zip(decoders.layer[bias].tolist(), decoders.position[bias].tolist(), strict=True)) == set(
        itertools.product([0, 1], range(1, 5))
    )


def test_a_bias_of_the_unembedding_is_a_node_of_its_own() -> None:
    hf: Any = toy_hf()
    biased = nn.Linear(24, 61, bias=True, dtype=torch.float64)
    biased.weight.data.copy_(hf.lm_head.weight)
    biased.bias.data.copy_(torch.linspace(-1, 2, 61, dtype=torch.float64))
    hf.lm_head = biased
    model = prepare_model(hf)
    graph = graph_of(model, toy_coders(model), toy_tokens(4))
    final = (graph.nodes.where(NodeKind.BIAS) & (graph.nodes.layer == 3)).nonzero()[:, 0]
    assert len(final) == 1
    assert graph.conservation.max_relative_to_edges <= 1e-13
    matrix = dense(graph)
    for target, logit in zip(graph.targets, graph.nodes.where(NodeKind.LOGIT).nonzero()[:, 0], strict=True):
        expected = biased.bias[target.token_id] - biased.bias.mean()
        assert matrix[logit, final].item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], KINDS[11]], ids=str)
def test_edges_are_the_gradients_of_the_detached_model(kind: dict[str, Any]) -> None:
    """A second way to the same numbers: autograd through the forward pass with all that is frozen detached."""
    model, tokens_T = toy_model(**kind), toy_tokens(6)
    coders = toy_coders(model, [0, 2])
    graph = graph_of(model, coders, tokens_T)
    embed_TD, outs, mlp_in, logits_V, written = _detached_pass(prepare_model(toy_hf(**kind)), tokens_T)
    nodes, matrix = graph.nodes, dense(graph)
    columns = nodes.where(NodeKind.TOKEN, NodeKind.FEATURE, NodeKind.ERROR).nonzero()[:, 0]
    for target in graph.edges.targets.tolist():
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        if nodes.kind[target] == NodeKind.LOGIT:
            value = logits_V[nodes.token_id[target]] - logits_V.mean()
        else:
            value = mlp_in[layer][position] @ coders[layer].W_enc[int(nodes.feature[target])]
        grads = torch.autograd.grad(value, [embed_TD, *outs], retain_graph=True, materialize_grads=True)
        for source in columns.tolist():
            layer, position = int(nodes.layer[source]), int(nodes.position[source])
            vector_D = embed_TD[position].detach() if layer < 0 else _written(graph, coders, written, source)
            edge = float(grads[layer + 1][position] @ vector_D)
            assert matrix[target, source].item() == pytest.approx(edge, abs=1e-11)


def _written(graph: Graph, coders: Mapping[int, ToyCoder], written: list[Tensor], source: int) -> Tensor:
    nodes = graph.nodes
    layer, position = int(nodes.layer[source]), int(nodes.position[source])
    if nodes.kind[source] == NodeKind.FEATURE:
        written_D = nodes.value[source] * coders[layer].W_dec[int(nodes.feature[source])]
        return torch.as_tensor(written_D)
    if layer not in coders or position == 0:
        return written[layer][position]
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == layer) & (nodes.position == position)
    decoders = coders[layer].W_dec[nodes.feature[here].long()]
    return written[layer][position] - nodes.value[here] @ decoders - coders[layer].b_dec


def _detached_pass(model: Model, tokens_T: Tensor) -> Any:
    """Llama's forward pass written out, with patterns, norm scales and MLP outputs detached."""
    hf: Any = model.hf
    with torch.no_grad():
        clean = hf(input_ids=tokens_T[None], use_cache=False, output_attentions=True, output_hidden_states=True)

    def norm(module: Any, x_TD: Tensor) -> Tensor:
        scale_T1 = (x_TD.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).rsqrt().detach()
        return torch.as_tensor(x_TD * scale_T1 * module.weight)

    embed_TD = hf.model.embed_tokens(tokens_T).detach().requires_grad_()
    x_TD, outs, mlp_in = embed_TD, [], []
    for layer, pattern in zip(hf.model.layers, clean.attentions, strict=True):
        attn = layer.self_attn
        v = attn.v_proj(norm(layer.input_layernorm, x_TD)).view(len(tokens_T), -1, attn.head_dim).transpose(0, 1)
        mixed = pattern[0] @ v.repeat_interleave(attn.num_key_value_groups, 0)
        x_TD = x_TD + attn.o_proj(mixed.transpose(0, 1).reshape(len(tokens_T), -1))
        mlp_in.append(norm(layer.post_attention_layernorm, x_TD))
        outs.append(layer.mlp(mlp_in[-1]).detach().requires_grad_())
        x_TD = x_TD + outs[-1]
    logits_V = hf.lm_head(norm(hf.model.norm, x_TD))[-1]
    torch.testing.assert_close(logits_V, clean.logits[0, -1], atol=1e-10, rtol=0)
    return embed_TD, outs, mlp_in, logits_V, [out.detach() for out in outs]


@given(seed=st.integers(0, 2**16), factor=st.floats(0.05, 20), layer=st.integers(0, 1))
@settings(max_examples=10, deadline=None)
def test_the_scale_of_a_source_feature_is_arbitrary(seed: int, factor: float, layer: int) -> None:
    """encoder * c, decoder / c: edges out of the feature stay, edges into it are multiplied by c."""
    model, tokens_T = toy_model(seed=seed % 3), toy_tokens(5, seed=seed)
    coders = toy_coders(model, seed=seed, n_features=12, k=12)  # k = F: which are active does not depend on scale
    before = graph_of(model, coders, tokens_T)
    old = coders[layer]
    scale_F1 = torch.ones(12, 1, dtype=torch.float64)
    scale_F1[3] = factor
    coders[layer] = replace(
        old, W_enc=old.W_enc * scale_F1, b_enc=old.b_enc * scale_F1[:, 0], W_dec=old.W_dec / scale_F1
    )
    after = graph_of(model, coders, tokens_T)
    nodes = before.nodes
    scaled = nodes.where(NodeKind.FEATURE) & (nodes.layer == layer) & (nodes.feature == 3)
    expected = dense(before)
    expected[scaled] *= factor
    torch.testing.assert_close(dense(after), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("targets_per_sweep", "tile"), [(1, 128), (7, 128), (10_000, 1), (10_000, 5), (64, 128)])
def test_batches_and_tiles_change_nothing(targets_per_sweep: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens_T = toy_model(biases=True), toy_tokens(6)
    coders = toy_coders(model)
    expected = graph_of(model, coders, tokens_T, targets_per_sweep=10_000)
    monkeypatch.setattr(sweep_module, "TILE_TARGETS", tile)
    graph = graph_of(model, coders, tokens_T, targets_per_sweep=targets_per_sweep)
    assert graph.edges.targets.equal(expected.edges.targets)
    torch.testing.assert_close(dense(graph), dense(expected), atol=1e-12, rtol=0)
    assert graph.explained_share == expected.explained_share == 1.0


def test_memory_bounds_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    coders = toy_coders(model)
    expected = graph_of(model, coders, tokens_T)
    monkeypatch.setattr(sweep_module, "TILE_BYTES", 1)
    torch.testing.assert_close(dense(graph_of(model, coders, tokens_T)), dense(expected), atol=1e-12, rtol=0)


def test_the_same_request_gives_the_same_graph() -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    first, second = (graph_of(model, toy_coders(model), tokens_T, max_nodes=30) for _ in range(2))
    assert first.edges.targets.equal(second.edges.targets)
    assert first.edges.weights.equal(second.edges.weights)


def test_selection_takes_the_most_influential_features_and_never_changes_a_row() -> None:
    model, tokens_T = toy_model(n_layers=4), toy_tokens(8)
    coders = toy_coders(model)
    whole = graph_of(model, coders, tokens_T)
    rows = dense(whole)
    shares = []
    for cap in (0, 1, 10, 40, 90, whole.n_active, whole.n_active + 5):
        graph = graph_of(model, coders, tokens_T, max_nodes=cap, targets_per_sweep=10)
        assert graph.n_selected == min(cap, whole.n_active)
        assert len(graph.nodes) == len(whole.nodes)
        torch.testing.assert_close(dense(graph)[graph.edges.targets], rows[graph.edges.targets], atol=1e-12, rtol=0)
        shares.append(graph.explained_share)
    assert shares[0] == 0
    assert shares[-1] == shares[-2] == 1
    assert shares == sorted(shares)
    assert shares[3] > 40 / whole.n_active

    # the first choice sees the logits' rows alone: the sources of the largest shares there, weighted by probability
    logits = whole.nodes.where(NodeKind.LOGIT)
    probabilities = torch.tensor([target.probability for target in whole.targets], dtype=torch.float64)
    direct = (rows[logits].abs() / rows[logits].abs().sum(1, keepdim=True) * probabilities[:, None]).sum(0)
    direct[~whole.nodes.where(NodeKind.FEATURE)] = -1
    graph = graph_of(model, coders, tokens_T, max_nodes=10, targets_per_sweep=10)
    assert set(graph.edges.targets[: -len(graph.targets)].tolist()) == set(direct.topk(10).indices.tolist())


@pytest.mark.parametrize("desired", [0.01, 0.3, 0.6, 1.0])
def test_targets_are_the_fewest_likely_tokens_that_reach_the_probability(desired: float) -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    graph = graph_of(model, toy_coders(model), tokens_T, max_logits=20, desired_logit_prob=desired, max_nodes=0)
    probabilities_V = model.hf(input_ids=tokens_T[None]).logits[0, -1].softmax(-1)
    ranked = probabilities_V.sort(descending=True)
    assert [target.token_id for target in graph.targets] == ranked.indices[: len(graph.targets)].tolist()
    reached = [target.probability for target in graph.targets]
    torch.testing.assert_close(torch.tensor(reached).double(), ranked.values[: len(reached)], atol=1e-6, rtol=0)
    assert len(reached) == 20 or sum(reached) >= desired
    assert sum(reached[:-1]) < desired


def test_float32_adds_up_to_its_own_precision() -> None:
    model = toy_model(dtype=torch.float32, biases=True)
    graph = graph_of(model, toy_coders(model), toy_tokens(7))
    assert graph.conservation.dtype == "float32"
    assert 0 < graph.conservation.max_relative_to_edges <= 5e-6


def test_a_broken_sweep_would_show_in_the_conservation(monkeypatch: pytest.MonkeyPatch) -> None:
    through = FrozenNetwork.from_values
    monkeypatch.setattr(
        FrozenNetwork, "from_values", lambda self, layer, values, first: through(self, layer, values, first) * 1.001
    )
    model = toy_model()
    assert graph_of(model, toy_coders(model), toy_tokens(6)).conservation.max_relative_to_edges > 1e-5


def test_it_leaves_no_hook_and_no_change() -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    before = {name: weight.clone() for name, weight in model.hf.state_dict().items()}
    graph_of(model, toy_coders(model), tokens_T)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())
    assert all(weight.equal(before[name]) for name, weight in model.hf.state_dict().items())


@pytest.mark.parametrize("n_tokens", [0, 65])
def test_prompts_that_do_not_fit_are_refused(n_tokens: int) -> None:
    model = toy_model()
    with pytest.raises(InvalidSpec, match=f"{n_tokens} tokens") as refused:
        graph_of(model, toy_coders(model), toy_tokens(n_tokens))
    assert refused.value.where == "/spec/prompt"


def test_coders_of_another_model_are_refused() -> None:
    model = toy_model()
    with pytest.raises(InvalidSpec, match="reads 16"):
        graph_of(model, toy_coders(toy_model(d_model=16)), toy_tokens(4))
    with pytest.raises(InvalidSpec, match="layer 3"):
        graph_of(model, toy_coders(toy_model(n_layers=4)), toy_tokens(4))


def test_a_graph_that_would_not_fit_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens_T = toy_model(), toy_tokens(6)
    monkeypatch.setattr(attribution_module, "MAX_EDGES", 2000)
    graph_of(model, toy_coders(model), tokens_T, max_nodes=5)
    with pytest.raises(InvalidSpec, match="edges") as refused:
        graph_of(model, toy_coders(model), tokens_T, max_nodes=50)
    assert refused.value.where == "/spec/max_nodes"


def test_it_reports_progress_and_stops_between_sweeps() -> None:
    class Impatient(Silent):
        def __init__(self, patience: int) -> None:
            self.seen: list[tuple[float, float]] = []
            self.patience = patience

        def progress(self, phase: str, done: float, total: float, unit: str) -> None:
            assert (phase, unit) == ("attribute", "nodes")
            self.seen.append((done, total))

        def stop_requested(self) -> bool:
            return len(self.seen) >= self.patience

    model, tokens_T = toy_model(), toy_tokens(6)
    patient = Impatient(10**6)
    graph = graph_of(model, toy_coders(model), tokens_T, targets_per_sweep=10, max_nodes=30, report=patient)
    assert patient.seen[-1][0] == patient.seen[-1][1] == 30 + len(graph.targets)
    assert [done for done, _ in patient.seen] == sorted(done for done, _ in patient.seen)
    impatient = Impatient(2)
    with pytest.raises(StopRequested):
        graph_of(model, toy_coders(model), tokens_T, targets_per_sweep=10, max_nodes=30, report=impatient)
    assert len(impatient.seen) == 2

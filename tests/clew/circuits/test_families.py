"""Attribution in every family: it adds up, equals autograd and is confirmed by intervention."""

from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import dense, graph_of
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens
from torch import Tensor, nn

from clew.circuits import frozen as frozen_module
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.interventions import Edit, compare
from clew.circuits.verification import measure, pinned_patterns, verify_edges
from clew.models import Model, record

TOKENS_T = toy_tokens(7)
Case = tuple[Model, dict[int, ToyCoder], Graph]
_CASES: dict[tuple[str, int], Case] = {}


@pytest.fixture(params=[(family, n) for family in FAMILIES for n in (2, 3)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    family, n_coders = request.param
    if request.param not in _CASES:
        model = family_model(family)
        coders = toy_coders(model, list(range(LAYERS)) if n_coders == LAYERS else [0, 2])
        _CASES[request.param] = model, coders, graph_of(model, coders, TOKENS_T)
    return _CASES[request.param]


def test_edges_add_up_to_what_the_model_computed(case: Case) -> None:
    model, coders, graph = case
    assert graph.conservation.max_relative_to_edges <= 1e-12
    seen, nodes, sums = record(model.hf, model.anatomy, TOKENS_T), graph.nodes, dense(graph).sum(1)
    logits_V = seen.uncapped_TV[-1]
    for target in graph.edges.targets.tolist():
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        if nodes.kind[target] == NodeKind.LOGIT:
            expected = logits_V[nodes.token_id[target]] - logits_V.mean()
            assert nodes.value[target].item() == pytest.approx(expected.item(), abs=1e-10)
        else:
            coder, feature = coders[layer], int(nodes.feature[target])
            before_bias = seen.layers[layer].mlp_in_TD[position] @ coder.W_enc[feature]
            assert nodes.value[target].item() == pytest.approx((before_bias + coder.b_enc[feature]).item(), abs=1e-10)
            norm_bias_D = model.anatomy.blocks[layer].mlp_norm.bias_D
            own = 0 if norm_bias_D is None else norm_bias_D @ coder.W_enc[feature]
            expected = before_bias - own
        assert sums[target].item() == pytest.approx(expected.item(), abs=1e-10)


def test_every_source_doubled_moves_every_target_by_its_edge(case: Case) -> None:
    model, coders, graph = case
    nodes, targets = graph.nodes, graph.edges.targets
    final_bias = nodes.where(NodeKind.BIAS) & (nodes.layer == LAYERS)
    sources = (~nodes.where(NodeKind.LOGIT) & ~final_bias).nonzero()[:, 0]
    effects = measure(model, coders, graph, TOKENS_T, sources, targets)
    torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-10, rtol=0)
    assert effects.abs().max() > 0.1
    checks = verify_edges(model, coders, graph, TOKENS_T, n=40)
    assert max(check.relative_error for check in checks) < 1e-7


@pytest.mark.parametrize("family", FAMILIES)
def test_skip_paths_pass_the_norms_of_the_family(family: str) -> None:
    model = family_model(family)
    coders = toy_coders(model, skip=True)
    graph = graph_of(model, coders, TOKENS_T)
    assert graph.conservation.max_relative_to_edges <= 1e-12
    nodes, targets = graph.nodes, graph.edges.targets
    final_bias = nodes.where(NodeKind.BIAS) & (nodes.layer == LAYERS)
    sources = (~nodes.where(NodeKind.LOGIT) & ~final_bias).nonzero()[:, 0]
    effects = measure(model, coders, graph, TOKENS_T, sources, targets)
    torch.testing.assert_close(effects, dense(graph)[targets][:, sources].T, atol=1e-10, rtol=0)
    node = int((nodes.where(NodeKind.FEATURE) & (nodes.layer == 0)).nonzero()[0])
    edit = Edit(0, int(nodes.feature[node]), int(nodes.position[node]), "scale", 3.0)
    found = compare(model, coders, graph, [edit], frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)
    assert found.predicted.abs().max() > 0.05


def test_edges_are_the_gradients_of_the_detached_model(case: Case) -> None:
    """Autograd through Hugging Face's own forward pass, which knows modules by name and nothing of the anatomy."""
    model, coders, graph = case
    leaves, mlp_in, logits_V = _detached_pass(model)
    nodes, matrix = graph.nodes, dense(graph)
    embed_TD, position_TD, *outs = (leaf[0].detach() for leaf in leaves)
    columns = nodes.where(NodeKind.TOKEN, NodeKind.POSITION, NodeKind.FEATURE, NodeKind.ERROR).nonzero()[:, 0].tolist()
    for target in graph.edges.targets.tolist()[::3] + graph.edges.targets.tolist()[-2:]:
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        if nodes.kind[target] == NodeKind.LOGIT:
            value = logits_V[nodes.token_id[target]] - logits_V.mean()
        else:
            value = mlp_in[layer][position] @ coders[layer].W_enc[int(nodes.feature[target])]
        grads = [
            g[0]
            for g in torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
        ]
        for source in columns:
            kind, layer, position = nodes.kind[source], int(nodes.layer[source]), int(nodes.position[source])
            if kind == NodeKind.TOKEN:
                edge = grads[0][position] @ embed_TD[position]
            elif kind == NodeKind.POSITION:
                edge = grads[1][position] @ position_TD[position]
            else:
                edge = grads[layer + 2][position] @ _written(graph, coders, outs, source)
            assert matrix[target, source].item() == pytest.approx(edge.item(), abs=1e-10)


def _written(graph: Graph, coders: dict[int, ToyCoder], outs: list[Tensor], source: int) -> Tensor:
    nodes = graph.nodes
    layer, position = int(nodes.layer[source]), int(nodes.position[source])
    if nodes.kind[source] == NodeKind.FEATURE:
        return torch.as_tensor(nodes.value[source] * coders[layer].W_dec[int(nodes.feature[source])])
    if layer not in coders or position == 0:
        return outs[layer][position]
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == layer) & (nodes.position == position)
    return (
        outs[layer][position]
        - nodes.value[here] @ coders[layer].W_dec[nodes.feature[here].long()]
        - coders[layer].b_dec
    )


def _detached_pass(model: Model) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Leaves [embedding, positions, MLP outputs...], each in a batch of one; MLP inputs; uncapped last logits."""
    modules: dict[str, Any] = dict(model.hf.named_modules())
    with torch.no_grad():
        clean: Any = model.hf(input_ids=TOKENS_T[None], use_cache=False, output_attentions=True)
    attentions = [m for name, m in modules.items() if name.rsplit(".", 1)[-1] in ("attn", "self_attn", "attention")]
    mlps = [(name, m) for name, m in modules.items() if name.endswith(".mlp")]
    writers = [modules.get(name.replace("mlp", "post_feedforward_layernorm"), m) for name, m in mlps]
    norms = [m for name, m in modules.items() if "Norm" in type(m).__name__ and not name.endswith(("q_norm", "k_norm"))]
    embed: Any = model.hf.get_input_embeddings()
    leaves: dict[Any, Tensor] = {}
    mlp_in: list[Tensor] = []
    logits: list[Tensor] = []

    def leaf(module: Any, _args: Any, output: Tensor) -> Tensor:
        leaves[module] = output.detach().clone().requires_grad_()
        return leaves[module]

    def freeze(module: Any, args: Any, output: Tensor) -> Tensor:
        x, bias = args[0], getattr(module, "bias", None)
        bias = torch.zeros(()) if bias is None else bias
        centred = x - x.mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else x
        return torch.as_tensor(centred * ((output - bias) / centred).detach() + bias)

    hooks = [m.register_forward_hook(freeze) for m in norms if m not in writers]
    hooks += [m.register_forward_hook(leaf) for m in [embed, *writers]]
    hooks += [m.register_forward_pre_hook(lambda _m, args: mlp_in.append(args[0][0])) for _, m in mlps]
    hooks.append(model.hf.get_output_embeddings().register_forward_hook(lambda _m, _a, out: logits.append(out[0, -1])))
    positions = modules.get("transformer.wpe")
    if positions is not None:
        hooks.append(positions.register_forward_hook(leaf))
    patterns = {module: pattern[0] for module, pattern in zip(attentions, clean.attentions, strict=True)}
    with torch.enable_grad(), pinned_patterns(model, patterns):
        model.hf(input_ids=TOKENS_T[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    none = torch.zeros(1, 7, 24, dtype=torch.float64, requires_grad=True)
    return [leaves[embed], leaves.get(positions, none), *(leaves[m] for m in writers)], mlp_in, logits[0]


def test_learned_positions_are_nodes_after_the_tokens() -> None:
    model = family_model("gpt2")
    graph = graph_of(model, toy_coders(model), TOKENS_T)
    nodes = graph.nodes
    positions = nodes.where(NodeKind.POSITION).nonzero()[:, 0].tolist()
    assert positions == list(range(7, 14))
    hf: Any = model.hf
    torch.testing.assert_close(nodes.value[positions], hf.transformer.wpe.weight[:7].norm(dim=-1), atol=1e-12, rtol=0)
    llama = family_model("llama")
    assert not graph_of(llama, toy_coders(llama), TOKENS_T).nodes.where(NodeKind.POSITION).any()


def test_in_parallel_blocks_a_layers_attention_does_not_feed_its_features() -> None:
    """A source one layer below is at its own position only: there is no attention in between."""
    model = family_model("neox-parallel")
    graph = graph_of(model, toy_coders(model), TOKENS_T)
    nodes, edges = graph.nodes, graph.edges
    source, target = edges.sources.long(), edges.target_of
    below = nodes.where(NodeKind.FEATURE, NodeKind.ERROR)[source] & (nodes.layer[target] == nodes.layer[source] + 1)
    features = below & nodes.where(NodeKind.FEATURE)[target]
    assert features.any()
    assert (nodes.position[source] == nodes.position[target])[features].all()
    first = nodes.where(NodeKind.FEATURE)[target] & (nodes.layer[target] == 0)
    assert (nodes.position[source] == nodes.position[target])[first].all()
    biases = nodes.where(NodeKind.BIAS)[source] & nodes.where(NodeKind.FEATURE)[target]
    assert (nodes.layer[source] < nodes.layer[target])[biases].all()


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "neox-parallel"])
def test_the_prompts_first_position_is_an_error_in_every_family(family: str) -> None:
    model = family_model(family)
    graph = graph_of(model, toy_coders(model), TOKENS_T)
    assert graph.nodes.position[graph.nodes.where(NodeKind.FEATURE)].min() == 1


def test_a_forgotten_post_norm_would_show_in_the_conservation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("gemma2")

    def without(self: Any, layer: int, g_TND: Tensor, first: int) -> Tensor:
        scale = self.seen.layers[layer].attn_post_scale_T1
        object.__setattr__(self.seen.layers[layer], "attn_post_scale_T1", None)
        through = original(self, layer, g_TND, first)
        object.__setattr__(self.seen.layers[layer], "attn_post_scale_T1", scale)
        return through

    original = frozen_module.FrozenNetwork.to_values
    monkeypatch.setattr(frozen_module.FrozenNetwork, "to_values", without)
    assert graph_of(model, toy_coders(model), TOKENS_T).conservation.max_relative_to_edges > 1e-3

"""A score is the sum of its pairs, and each pair is what the model's own attention does where its nodes are changed."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.circuits.test_splits import PROMPT_T, network_of
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import toy_coders
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from clew.circuits import qk, verification
from clew.circuits.graph import NodeKind
from clew.circuits.qk import qk_document, score, strongest, strongest_pairs
from clew.models import Model
from clew.models.recording import hooked, read_by
from clew_spec.errors import DataError

pytestmark = pytest.mark.science

OPTIONS: list[dict[str, Any]] = [{}, {"skip": True, "position_0": "features"}, {"cross": True}]
QUERY, KEY, OTHER = 5, 3, 4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "skip", "cross-layer"])
def test_all_pairs_add_up_to_the_score_that_makes_the_pattern(family: str, options: dict[str, Any]) -> None:
    model = family_model(family)
    position_0 = options.get("position_0", "error")
    coders = toy_coders(model, **{name: value for name, value in options.items() if name != "position_0"})
    network = network_of(model, coders, position_0=position_0)
    for layer in range(LAYERS):
        cap = model.anatomy.blocks[layer].attention.scores.cap
        for head in range(4):
            logs = network.seen.layers[layer].pattern_HTT[head, QUERY].double().log()
            found = [score(model, network, layer, head, QUERY, key) for key in range(QUERY + 1)]
            for key, each in enumerate(found):
                added = float((each.query_ME @ each.key_ME.T).sum())
                assert added == pytest.approx(each.value, abs=1e-9)
                capped = float(cap(torch.tensor(each.value)) - cap(torch.tensor(found[QUERY].value)))
                if logs[key].isfinite():
                    assert capped == pytest.approx(float(logs[key] - logs[QUERY]), abs=1e-5), (
                        "the softmax is taken in float32"
                    )
            apart = score(model, network, layer, head, QUERY, KEY, OTHER)
            assert apart.value == pytest.approx(found[KEY].value - found[OTHER].value, abs=1e-12)
            later = network.nodes.position > QUERY
            assert not apart.query_ME[:-1][later].any()


@contextmanager
def _pinned_but(
    model: Model, patterns: Mapping[nn.Module, Tensor], free: nn.Module, seen: list[Tensor]
) -> Iterator[None]:
    """Patterns as they were, but those of one module, which are the model's own and are kept in `seen`."""

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        if module is free:
            eager = sys.modules[type(module).__module__].eager_attention_forward
            out, pattern_BHTT = eager(module, query, key, value, mask, **options)
            seen.append(pattern_BHTT)
            return out, pattern_BHTT
        groups = getattr(module, "num_key_value_groups", 1)
        mixed_BHTE = patterns[module] @ value.repeat_interleave(groups, dim=1)
        return mixed_BHTE.transpose(1, 2).contiguous(), patterns[module]

    AttentionInterface.register("test-pinned", attend)
    AttentionMaskInterface.register("test-pinned", eager_mask)
    model.hf.set_attn_implementation("test-pinned")
    try:
        yield
    finally:
        model.hf.set_attn_implementation("eager")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cross", [False, True])
def test_pairs_are_what_the_models_own_attention_does_when_nodes_are_changed(
    family: str, cross: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is bilinear: with node n at 1 + a times what it writes, it moves by a (its two marginals) + a^2 (its
    pair with itself); with two nodes at once, by their pairs as well. Read off the softmax of the pinned model."""
    model = family_model(family)
    coders = toy_coders(model, cross=cross)
    graph = graph_of(model, coders, PROMPT_T)
    network = network_of(model, coders)
    layer, nodes = LAYERS - 1, network.nodes
    pinned = verification._PinnedModel(model, PROMPT_T)
    free: Any = pinned.model.anatomy.blocks[layer].attention.module
    free.attn_logit_softcapping = None  # what is told is the score before the cap
    seen: list[Tensor] = []
    monkeypatch.setattr(verification, "pinned_patterns", lambda of, patterns: _pinned_but(of, patterns, free, seen))
    norms = [getattr(free, name) for name in ("q_norm", "k_norm") if hasattr(free, name)]
    frozen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        frozen[module] = output / read_by(args, kwargs)

    def hold(module: nn.Module, args: Any, kwargs: Any, _output: Tensor) -> Tensor:
        return read_by(args, kwargs) * frozen[module]

    with torch.inference_mode(), hooked(*((norm, keep) for norm in norms)):
        pinned._run([], coders, "error")

    def extra(change: dict[int, float]) -> Any:
        """What nodes write, so many times more of it, at all positions at once."""
        mlp: dict[int, Tensor] = {}
        for node, times in change.items():
            one = verification._Extra.of(graph, coders, pinned, node)
            for at, vector_D in one.mlp.items():
                mlp.setdefault(at, vector_D.new_zeros(len(PROMPT_T), len(vector_D)))[one.position] += times * vector_D
        return verification._Extra(slice(None), mlp=mlp)  # type: ignore[arg-type]

    def scores(*changes: dict[int, float]) -> Tensor:
        """[changes, H]: of KEY less that of OTHER."""
        with torch.inference_mode(), hooked(*((norm, hold) for norm in norms)):
            pinned._run([extra(change) for change in changes], coders, "error")
        logs_BHT = seen[-1][:-1, :, QUERY].log()
        return logs_BHT[..., KEY] - logs_BHT[..., OTHER]

    features = nodes.where(NodeKind.FEATURE)

    def some(position: int, at: int) -> int:
        return int((features & (nodes.position == position) & (nodes.layer == at)).nonzero()[0])

    chosen = [some(QUERY, 1), some(KEY, 0), some(OTHER, 1), some(2, 0)]
    n, m = chosen[:2]
    changes = [{}, {n: 1.0, m: 1.0}, *({node: times} for node in chosen for times in (1.0, -1.0))]
    plain_H, both_H, *single = scores(*changes)
    moved = 0.0
    for head in range(4):
        told = score(model, network, layer, head, QUERY, KEY, OTHER)
        plain = float(plain_H[head])
        assert plain == pytest.approx(told.value, abs=1e-5)
        pairs = told.query_ME @ told.key_ME.T
        for node, up_H, down_H in zip(chosen, single[::2], single[1::2], strict=True):
            up, down = float(up_H[head]) - plain, float(down_H[head]) - plain
            marginals = float(pairs[node].sum() + pairs[:, node].sum())
            assert (up - down) / 2 == pytest.approx(marginals, abs=1e-5)
            assert (up + down) / 2 == pytest.approx(float(pairs[node, node]), abs=1e-5)
            moved = max(moved, abs(marginals))
        joint = float(both_H[head] - single[0][head] - single[2][head]) + plain
        assert joint == pytest.approx(float(pairs[n, m] + pairs[m, n]), abs=1e-5)
    assert moved > 1e-2


@pytest.mark.parametrize("at_once", [7, 10**6])
def test_the_strongest_pairs_of_either_sign_are_told(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qk, "PAIRS_AT_ONCE", at_once)
    model = family_model("gpt2")
    coders = toy_coders(model)
    graph = graph_of(model, coders, PROMPT_T)
    found = score(model, network_of(model, coders), 2, 1, QUERY, KEY)
    pairs = found.query_ME @ found.key_ME.T
    at_query, at_key, weights = strongest_pairs(found, 40)
    torch.testing.assert_close(weights, pairs[at_query, at_key], atol=1e-12, rtol=0)
    assert weights.abs().tolist() == pytest.approx(pairs.flatten().abs().topk(40).values.tolist())
    assert weights.min() < 0 < weights.max()

    told = qk_document(model, coders, graph, 2, 1, QUERY, KEY, top=40)
    assert told.residual < 1e-12
    assert sum(pair.weight for pair in told.pairs) + told.rest == pytest.approx(told.score, abs=1e-10)
    assert sum(part.weight for part in told.parts) == pytest.approx(told.score, abs=1e-10)
    assert "head" in {part.query for part in told.parts}
    everything = qk_document(model, coders, graph, 2, 1, QUERY, KEY, top=10**6)
    for side in (everything.queries, everything.keys):
        nodes = [each.node.id if each.node else None for each in side]
        assert len({*nodes}) == len(nodes)
    assert sum(each.weight for each in everything.keys) == pytest.approx(told.score, abs=1e-10)
    short = strongest(told, 5)
    assert short.pairs == told.pairs[:5]
    assert sum(pair.weight for pair in short.pairs) + short.rest == pytest.approx(told.score, abs=1e-10)


def test_an_attention_that_is_not_understood_is_refused() -> None:
    model = family_model("llama")
    network = network_of(model, toy_coders(model))
    blocks = list(model.anatomy.blocks)
    attention = blocks[1].attention
    wrong = replace(attention, scores=replace(attention.scores, scale=2 * attention.scores.scale))
    blocks[1] = replace(blocks[1], attention=wrong)
    misread = replace(model, anatomy=replace(model.anatomy, blocks=tuple(blocks)))
    with pytest.raises(DataError, match="do not make its pattern"):
        score(misread, network, 1, 0, QUERY, KEY)

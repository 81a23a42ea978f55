"""The parts of an edge are what is lost without them, and add up to it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.circuits.planted import HEAD, JOINS, KINDS, TOKENS_T, TWO, planted
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import ToyCoder, toy_coders, toy_tokens

from clew.circuits.document import document
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NodeKind
from clew.circuits.splits import network_of as network_of_graph
from clew.circuits.splits import node_of, split_edge, split_stored
from clew.circuits.storage import load_graph, save_graph
from clew.circuits.sweep import sweep
from clew.circuits.targets import Direction, Token
from clew.models import Model
from clew_spec.edges import read_node
from clew_spec.errors import DataError, InvalidSpec

pytestmark = pytest.mark.science

PROMPT_T = toy_tokens(6)


def network_of(model: Model, coders: dict[int, ToyCoder], **options: Any) -> FrozenNetwork:
    tokens_T = options.pop("tokens_T", PROMPT_T)
    given: dict[str, Any] = {"max_logits": 2, "desired_logit_prob": 1.0, "dtype": torch.float64} | options
    return FrozenNetwork(model, coders, tokens_T, **given)


def edge(network: FrozenNetwork, source: int, target: int) -> float:
    rows = sweep(network, torch.tensor([target]))
    found = (rows.sources == source).nonzero()[:, 0]
    return float(rows.weights[found].sum())


def targets_of(network: FrozenNetwork) -> list[int]:
    """A feature of each layer, the last one there, and a logit."""
    nodes = network.nodes
    features = nodes.where(NodeKind.FEATURE)
    last = [int((features & (nodes.layer == layer)).nonzero()[-1]) for layer in range(LAYERS)]
    return [*last, network.first_logit]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options", [{}, {"skip": True, "position_0": "features"}, {"cross": True}], ids=["plain", "skip", "cross-layer"]
)
def test_the_parts_of_every_edge_add_up_to_it(family: str, options: dict[str, Any]) -> None:
    model = family_model(family)
    position_0 = options.get("position_0", "error")
    coders = toy_coders(model, **{name: value for name, value in options.items() if name != "position_0"})
    network = network_of(model, coders, position_0=position_0)
    nodes = network.nodes
    final = nodes.where(NodeKind.LOGIT) | (nodes.position < 0)
    attended = 0.0
    for target in targets_of(network):
        rows = sweep(network, torch.tensor([target]))
        weights = torch.zeros(len(nodes), dtype=torch.float64)
        weights[rows.sources.long()] = rows.weights
        for source in (~final).nonzero()[::7, 0].tolist():
            found = split_edge(network, source, target)
            expected = weights[source].item()
            assert found.edge == pytest.approx(expected, abs=1e-10)
            assert found.direct + float(found.last_LHT.sum()) == pytest.approx(expected, abs=1e-10)
            for layer in found.layers:
                through = float(found.around_L[layer] + found.through_LH[layer].sum())
                assert through == pytest.approx(expected, abs=1e-10)
            source_layer, position = int(nodes.layer[source]), int(nodes.position[source])
            assert not found.last_LHT[:, :, int(nodes.position[target]) + 1 :].any()
            assert not found.last_LHT[:, :, :position].any(), "nothing stands there before the source does"
            assert not found.through_LH[: max(source_layer, 0)].any()
            if position != int(nodes.position[target]):
                assert found.direct == 0
            attended = max(attended, float(found.last_LHT.abs().max()))
    assert attended > 0.05


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "neox-parallel"])
def test_a_part_is_what_the_edge_loses_without_its_head(family: str) -> None:
    """The sweep itself, with heads taken out of the weights or a position out of their patterns."""
    model = family_model(family)
    network = network_of(model, toy_coders(model))
    nodes = network.nodes
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == 0) & (nodes.position == 2)
    source, target = int(here.nonzero()[0]), network.first_logit
    found = split_edge(network, source, target)
    blocks, seen = network.anatomy.blocks, network.seen.layers

    def without(*taken: tuple[int, int | None, int | None]) -> float:
        """(layer, head, position it reads from); None for all of them."""
        weights = [block.attention.W_O_DHE.clone() for block in blocks]
        patterns = [each.pattern_HTT.clone() for each in seen]
        with torch.inference_mode():
            for layer, head, position in taken:
                heads = slice(None) if head is None else slice(head, head + 1)
                if position is None:
                    blocks[layer].attention.W_O_DHE[:, heads] = 0
                else:
                    seen[layer].pattern_HTT[heads, :, position] = 0
            left = edge(network, source, target)
            for block, record, W_O_DHE, pattern_HTT in zip(blocks, seen, weights, patterns, strict=True):
                block.attention.W_O_DHE.copy_(W_O_DHE)
                record.pattern_HTT.copy_(pattern_HTT)
        return left

    whole = without()
    assert whole == pytest.approx(found.edge, abs=1e-12)
    assert without(*((layer, None, None) for layer in range(LAYERS))) == pytest.approx(found.direct, abs=1e-12)
    for layer in range(1, LAYERS):
        above = [(each, None, None) for each in range(layer + 1, LAYERS)]
        for head in range(4):
            lost = whole - without((layer, head, None))
            assert float(found.through_LH[layer, head]) == pytest.approx(lost, abs=1e-10)
            for position in (2, 4):
                lost = without(*above) - without(*above, (layer, head, position))
                assert float(found.last_LHT[layer, head, position]) == pytest.approx(lost, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_head_carries_the_planted_edge(kind: str) -> None:
    model, coders = planted(kind)
    network = network_of(model, coders, tokens_T=TOKENS_T)
    nodes = network.nodes

    def node(at: tuple[int, int], position: int) -> int:
        here = nodes.where(NodeKind.FEATURE) & (nodes.layer == at[0]) & (nodes.feature == at[1])
        return int((here & (nodes.position == position)).nonzero()[0])

    found = split_edge(network, node(TWO, 2), node(JOINS, 5))
    assert found.edge > 0.1
    assert float(found.last_LHT[*HEAD, 2]) == pytest.approx(found.edge, abs=1e-12)
    assert float(found.through_LH[HEAD]) == pytest.approx(found.edge, abs=1e-12)


def test_an_edge_of_a_stored_graph_is_its_networks(tmp_path: Path) -> None:
    model = family_model("gpt2")
    coders = toy_coders(model)
    targets = [Token(9, 30), Direction("any", torch.arange(24.0).double(), 0.5)]
    made = graph_of(model, coders, PROMPT_T, max_nodes=5, targets=targets)
    save_graph(tmp_path, made, document(made, "g", 10))
    graph = load_graph(tmp_path)
    for rank in (0, 1):
        target = node_of(graph, read_node(f"logit@{rank}"), "")
        sources, weights = graph.edges.row(target)
        for source, weight in zip(sources[::9].tolist(), weights[::9].tolist(), strict=True):
            if graph.nodes.position[source] < 0:
                continue
            told = split_stored(model, coders, graph, source, target)
            assert (told.source.id, told.target.id, told.capped) == (source, target, None)
            assert told.stored == pytest.approx(weight, abs=1e-12)
            assert told.edge == pytest.approx(weight, abs=1e-10)
            assert told.share == pytest.approx(abs(weight) / float(weights.abs().sum()), rel=1e-9)
            parts = told.direct + told.rest + sum(part.weight for part in told.parts)
            assert parts == pytest.approx(weight, abs=1e-10)
            assert told.direct + sum(told.positions) == pytest.approx(weight, abs=1e-10)
    nodes = graph.nodes
    unopened = int((nodes.where(NodeKind.FEATURE) & graph.leaves & (nodes.layer == 2)).nonzero()[-1])
    told = split_stored(model, coders, graph, 0, unopened)
    assert (told.stored, told.share) == (None, None)
    assert told.capped == min(told.edge, nodes.value[unopened].item())
    name = f"L{nodes.layer[unopened]}/F{nodes.feature[unopened]}@{nodes.position[unopened]}"
    assert node_of(graph, read_node(name), "") == unopened
    with pytest.raises(InvalidSpec, match="not active there"):
        node_of(graph, read_node("L1/F0@0"), "/spec/source")
    with pytest.raises(DataError, match="do not make the nodes"):
        network_of_graph(model, toy_coders(model, seed=1), graph)


def test_what_has_no_edges_is_refused() -> None:
    model = family_model("gpt2")
    network = network_of(model, toy_coders(model), position_0="left-out")
    nodes = network.nodes
    left_out = int(network.left_out.nonzero()[0])
    final_bias = int(((nodes.position < 0) & nodes.where(NodeKind.BIAS)).nonzero()[0])
    for source, target, match in (
        (0, 1, "the target of an edge"),
        (network.first_logit, network.first_logit, "a logit is no source"),
        (final_bias, network.first_logit, "the output bias is no source"),
        (left_out, network.first_logit, "left out"),
    ):
        with pytest.raises(InvalidSpec, match=match):
            split_edge(network, source, target)

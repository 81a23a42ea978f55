"""A circuit that is known, because it was written into the weights, is found: all of it, and nothing else."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from tests.clew.circuits import planted as p
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.toys import ToyCoder

from clew.circuits.connections import de_embedding, ov_norms, promoted_tokens, reading, virtual_weights
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.interventions import Edit, compare, intervene
from clew.circuits.paths import strongest_paths
from clew.models import Model, record

NOTHING = 1e-10
CIRCUIT = {p.SEES_A, p.SEES_B, p.TWO, p.JOINS}
LAST, AT_A = len(p.TOKENS_T) - 1, 2


@dataclass
class Case:
    model: Model
    coders: dict[int, ToyCoder]
    graph: Graph


@pytest.fixture(scope="module", params=p.KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    model, coders = p.planted(request.param)
    return Case(model, coders, graph_of(model, coders, p.TOKENS_T, max_logits=1, desired_logit_prob=0.01))


def test_weights_alone_show_the_planted_edges_and_no_others(case: Case) -> None:
    model, coders = case.model, case.coders
    found: dict[tuple[object, ...], float] = {}
    for low, high in itertools.combinations(range(p.LAYERS), 2):
        highest = high - 1 if model.anatomy.blocks[high].parallel else high
        routes = [(), *(((layer, h),) for layer in range(low + 1, highest + 1) for h in range(p.HEADS))]
        for route in routes:
            top = virtual_weights(model, coders[low], coders[high], k=p.FEATURES, through=route)
            for target, rank in (top.values_NK.abs() > NOTHING).nonzero().tolist():
                source = int(top.indices_NK[target, rank])
                found[(low, source), *route, (high, target)] = top.values_NK[target, rank].item()
    g = p.GAIN
    expected = {
        (p.SEES_A, p.TWO): g,
        (p.TWO, p.HEAD, p.JOINS): g * g * p.ATTENTION,
        (p.SEES_B, p.JOINS): -g * p.INHIBITION,
    }
    assert found == {edge: pytest.approx(weight, abs=1e-12) for edge, weight in expected.items()}


def test_weights_alone_show_what_goes_in_and_what_comes_out(case: Case) -> None:
    model, coders = case.model, case.coders
    for (layer, feature), token in ((p.SEES_A, p.A), (p.SEES_B, p.B)):
        tokens = de_embedding(model, reading(model, coders[layer], [feature]), 2)
        assert tokens.indices_NK[0, 0] == token
        assert tokens.values_NK[0].tolist() == pytest.approx([2 * p.GAIN, 0], abs=1e-12)
    promoted = promoted_tokens(model, coders[p.JOINS[0]], 2, [p.JOINS[1]])
    assert promoted.indices_NK[0, 0] == p.ANSWER
    assert promoted.values_NK[0].tolist() == pytest.approx(
        [8 * p.GAIN * (1 - 1 / p.VOCAB), -8 * p.GAIN / p.VOCAB], abs=1e-12
    )
    expected = torch.zeros(p.LAYERS, p.HEADS, dtype=torch.float64)
    expected[p.HEAD] = p.GAIN * p.ATTENTION
    if model.anatomy.blocks[0].parallel:
        expected[p.TRAP] = p.GAIN * p.ATTENTION
    torch.testing.assert_close(ov_norms(model), expected, atol=1e-12, rtol=0)


def node(case: Case, kind: NodeKind, position: int, feature: tuple[int, int] | None = None) -> int:
    nodes = case.graph.nodes
    here = nodes.where(kind) & (nodes.position == position)
    if feature is not None:
        here &= (nodes.layer == feature[0]) & (nodes.feature == feature[1])
    return int(here.nonzero().item())


def named(case: Case) -> dict[str, int]:
    return {
        "A": node(case, NodeKind.TOKEN, AT_A),
        "B": node(case, NodeKind.TOKEN, LAST),
        "sees A": node(case, NodeKind.FEATURE, AT_A, p.SEES_A),
        "sees B": node(case, NodeKind.FEATURE, LAST, p.SEES_B),
        "two": node(case, NodeKind.FEATURE, AT_A, p.TWO),
        "joins": node(case, NodeKind.FEATURE, LAST, p.JOINS),
        "answer": node(case, NodeKind.LOGIT, LAST),
    }


def test_the_graph_has_the_planted_edges_with_the_planted_weights(case: Case) -> None:
    graph, seen, n = case.graph, record(case.model.hf, case.model.anatomy, p.TOKENS_T), named(case)
    assert graph.targets[0].token_id == p.ANSWER
    into = {
        name: {s: w for s, w in zip(*(x.tolist() for x in graph.edges.row(n[name])), strict=True) if abs(w) > NOTHING}
        for name in ("sees A", "sees B", "two", "joins", "answer")
    }
    z, g = graph.nodes.value, p.GAIN
    scale = [layer.mlp_scale_T1[:, 0] for layer in seen.layers]
    attended = seen.layers[2].pattern_HTT[p.HEAD[1], LAST, AT_A] * seen.layers[2].attn_scale_T1[AT_A, 0]
    expected = {
        "sees A": {n["A"]: 2 * g * scale[0][AT_A]},
        "sees B": {n["B"]: 2 * g * scale[0][LAST]},
        "two": {n["sees A"]: z[n["sees A"]] * g * scale[1][AT_A]},
        "joins": {
            n["sees B"]: -z[n["sees B"]] * g * p.INHIBITION * scale[3][LAST],
            n["two"]: z[n["two"]] * g * g * p.ATTENTION * attended * scale[3][LAST],
        },
        "answer": {n["joins"]: z[n["joins"]] * 8 * g * (1 - 1 / p.VOCAB) * seen.final_scale_T1[-1, 0]},
    }
    for name, row in expected.items():
        assert into[name] == {source: pytest.approx(float(weight), abs=1e-12) for source, weight in row.items()}, name
    # nothing planted feeds a decoy or an earlier position's answer, and no decoy feeds what is planted
    nodes, edges = graph.nodes, graph.edges
    strong = edges.weights.abs() > NOTHING
    planted = torch.tensor([(int(la), int(f)) in CIRCUIT for la, f in zip(nodes.layer, nodes.feature, strict=True)])
    features = nodes.where(NodeKind.FEATURE)
    source, target = edges.sources.long()[strong], edges.target_of[strong]
    between = features[source] & features[target]
    assert between.any()
    assert (planted[source] & planted[target])[between].all()
    assert (features & ~planted).sum() > 20


def test_the_paths_are_the_two_planted_routes(case: Case) -> None:
    n, graph = named(case), case.graph
    excites, inhibits, *others = strongest_paths(graph, 10)
    sources, weights = graph.edges.row(n["joins"])
    inhibitory = graph.edges.shares[graph.edges.span(n["joins"])][sources == n["sees B"]].item()
    assert [step.node for step in excites.steps] == [n[x] for x in ("A", "sees A", "two", "joins", "answer")]
    assert [step.node for step in inhibits.steps] == [n[x] for x in ("B", "sees B", "joins", "answer")]
    assert excites.score == pytest.approx(1 - inhibitory, abs=NOTHING)
    assert inhibits.score == pytest.approx(inhibitory, abs=NOTHING)
    assert weights[sources == n["sees B"]].item() < 0
    assert all(path.score < NOTHING for path in others)


def test_interventions_confirm_the_circuit_and_its_sign(case: Case) -> None:
    model, coders, n = case.model, case.coders, named(case)

    def answer(*edits: Edit) -> float:
        logits_V = intervene(model, coders, p.TOKENS_T, edits, frozen=False).after.logits_TV[-1]
        return (logits_V[p.ANSWER] - logits_V.mean()).item()

    clean = answer()
    assert clean > 1
    for feature, position in ((p.SEES_A, AT_A), (p.TWO, AT_A), (p.JOINS, LAST)):
        assert answer(Edit(*feature, position, "ablate")) == pytest.approx(0, abs=NOTHING)
    assert answer(Edit(*p.SEES_B, LAST, "ablate")) > clean + 0.05
    assert answer(Edit(*p.SEES_B, LAST, "scale", 30.0)) == pytest.approx(0, abs=NOTHING)
    decoys = [Edit(0, f, slice(1, None), "ablate") for f in range(8) if (0, f) not in CIRCUIT]
    measured = compare(model, coders, case.graph, [Edit(*p.SEES_B, LAST, "ablate")], frozen=True)
    at = int((measured.targets == n["joins"]).nonzero().item())
    assert measured.measured[at].item() == pytest.approx(measured.predicted[at].item(), abs=1e-12)
    assert measured.predicted[at] > 0
    # decoys matter through norm scales alone: a little, and not to which token wins
    assert abs(answer(*decoys) - clean) < 0.5 * clean

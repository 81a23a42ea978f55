"""What the suite of faithfulness measures, against interventions and at the ends of its scales."""

from typing import Any

import pytest
import torch
from tests.clew.circuits.planted import TOKENS_T as PLANTED_T
from tests.clew.circuits.planted import planted
from tests.clew.circuits.test_attribution import graph_of
from tests.clew.circuits.test_interventions import TOKENS_T, case_of
from tests.clew.toys import toy_tokens

from clew.circuits.faithfulness import faithfulness, sample
from clew.circuits.faithfulness_curves import curves
from clew.circuits.graph import NodeKind
from clew.circuits.influence import node_influence
from clew.circuits.interventions import Edit, intervene
from clew.circuits.targets import Direction, Token
from clew.reporting import Silent, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.faithfulness import Faithfulness

pytestmark = pytest.mark.science


def tried(family: str = "llama", **options: Any) -> Faithfulness:
    model, coders, graph = case_of(family)
    asked: dict[str, Any] = {"nodes": 8, "edges": 20, "ablation": "zero", "report": Silent()}
    return faithfulness(model, coders, graph, **(asked | options))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_freeze_holds_exactly_and_a_seed_decides_the_rest(family: str) -> None:
    found = tried(family)
    assert found.checks.edges == 20
    assert found.checks.largest < 1e-6
    assert found.conservation == case_of(family)[2].conservation
    assert tried(family) == found
    assert tried(family, seed=1).checks != found.checks
    assert found.steering.features == found.influence.features == 8


def test_real_directions_are_predicted_better_than_random_ones_of_the_same_norm() -> None:
    model, coders = planted("RMSNorm, sequential")
    graph = graph_of(model, coders, PLANTED_T)
    steering = faithfulness(model, coders, graph, nodes=1000, edges=20, ablation="zero", report=Silent()).steering
    assert steering.nodes.pearson is not None
    assert steering.control_nodes.pearson is not None
    assert steering.nodes.same_sign == 1
    assert steering.nodes.pearson > 0.5 > steering.control_nodes.pearson


def test_a_feature_more_costs_one_pass_without_it_and_one_for_its_control() -> None:
    model, passes = case_of("llama")[0], list[int]()

    def passes_of(nodes: int) -> int:
        passes.clear()
        tried(nodes=nodes)
        return len(passes)

    handle = model.hf.register_forward_pre_hook(lambda *_: passes.append(1))
    few, more = passes_of(3), passes_of(8)
    handle.remove()
    assert more - few == 2 * 5


def test_samples_are_spread_over_the_ranking() -> None:
    _, _, graph = case_of("llama")
    selected = (graph.nodes.where(NodeKind.FEATURE) & ~graph.leaves).nonzero()[:, 0]
    ranked = selected[node_influence(graph)[selected].argsort(descending=True, stable=True)].tolist()
    ranks = sorted(ranked.index(node) for node in sample(graph, 5, 3).tolist())
    edges = torch.tensor(range(len(ranked))).tensor_split(5)
    assert [rank in part for rank, part in zip(ranks, edges, strict=True)] == [True] * 5
    assert sample(graph, 10**6, 0).equal(selected)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_curves_go_from_nothing_to_the_model(family: str, ablation: Any) -> None:
    model, coders, graph = case_of(family)
    found = curves(model, coders, graph, ablation, Silent())
    first, last = found.points[0], found.points[-1]
    assert (first.features, last.features) == (0, graph.n_active)
    assert first.keep == last.ablate == found.empty
    assert first.ablate == last.keep == found.whole
    assert found.whole == pytest.approx(
        sum(
            t.logit * p
            for t, p in zip(graph.targets, graph.start[graph.nodes.where(NodeKind.LOGIT)].tolist(), strict=True)
        ),
        abs=1e-5,
    )
    assert abs(found.whole - found.empty) > 1e-3
    assert [point.features for point in found.points] == sorted(point.features for point in found.points)


def test_ablating_is_what_edits_that_ablate_do() -> None:
    """One feature of all: the curve's masks against interventions, which share no code with them."""
    model, coders, graph = case_of("gpt2")
    found = curves(model, coders, graph, "zero", Silent())
    nodes = graph.nodes
    features = nodes.where(NodeKind.FEATURE).nonzero()[:, 0]
    ranked = features[node_influence(graph)[features].argsort(descending=True, stable=True)]
    point = next(each for each in found.points if each.features > 1)
    edits = [
        Edit(int(nodes.layer[node]), int(nodes.feature[node]), int(nodes.position[node]), "ablate")
        for node in ranked[: point.features]
    ]
    logits_V = intervene(model, coders, TOKENS_T, edits, frozen=False).after.uncapped_TV[-1].double()
    weights = graph.start[nodes.where(NodeKind.LOGIT)]
    ids = [target.token_id for target in graph.targets]
    assert point.ablate == pytest.approx(float((logits_V[ids] - logits_V.mean()) @ weights), abs=1e-8)
    assert point.ablate != pytest.approx(found.whole, abs=1e-4)


def test_a_prompt_is_its_own_best_paraphrase() -> None:
    _, _, graph = case_of("llama")
    others = [toy_tokens(7, seed=seed) for seed in (5, 6)]
    found = tried(paraphrases=[("same", TOKENS_T), *((f"p{i}", tokens) for i, tokens in enumerate(others))], top=20)
    stable = found.stability
    assert stable is not None
    assert stable.jaccard[0] == 1
    assert all(0 <= value < 1 for value in stable.jaccard[1:])
    assert stable.prompts == [graph.prompt, "same", "p0", "p1"]
    assert stable.mean_jaccard < 1
    assert tried().stability is None


def test_paraphrases_are_asked_for_the_targets_that_the_graph_names() -> None:
    model, coders, _ = case_of("gpt2")
    W_U = model.anatomy.W_U_VD
    named = [Token(9, 30), Direction("nine less thirty", W_U[9] - W_U[30], 0.25)]
    graph = graph_of(model, coders, TOKENS_T, targets=named)
    paraphrases = [("same", TOKENS_T), ("other", toy_tokens(7, seed=5))]
    asked: dict[str, Any] = {"nodes": 3, "edges": 5, "ablation": "zero", "paraphrases": paraphrases}
    stable = faithfulness(model, coders, graph, report=Silent(), **asked).stability
    assert stable is not None
    assert stable.jaccard[0] == 1
    assert stable.jaccard[1] < 1
    said = [int(model.hf(input_ids=tokens[None]).logits[0, -1].argmax()) for _, tokens in paraphrases]
    assert stable.next_tokens == [f"<{said[0]}>", *(f"<{token}>" for token in said)]
    assert 9 not in said


def test_what_cannot_be_tried_out_is_refused_and_work_stops_when_told() -> None:
    model, _, _ = case_of("llama")
    empty = graph_of(model, {}, TOKENS_T)
    asked: dict[str, Any] = {"nodes": 3, "edges": 5, "ablation": "zero"}
    with pytest.raises(InvalidSpec, match="no feature"):
        faithfulness(model, {}, empty, report=Silent(), **asked)

    class Told(Silent):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(StopRequested):
        tried(report=Told())

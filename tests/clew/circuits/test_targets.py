"""What a graph explains: tokens, differences of two and directions, each as exact as the most likely tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.clew.circuits.test_attribution import dense, graph_of
from tests.clew.circuits.test_verification import sources_of
from tests.clew.families import family_model
from tests.clew.toys import toy_coders, toy_model, toy_tokens

from clew.circuits import document, load_document, load_graph, save_graph
from clew.circuits.faithfulness_curves import curves
from clew.circuits.graph import NodeKind
from clew.circuits.interventions import Edit, compare
from clew.circuits.targets import Direction, Token
from clew.circuits.verification import measure, verify_edges
from clew.models import record
from clew.reporting import Silent
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science

TOKENS_T = toy_tokens(7)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "neox-parallel"])
def test_every_kind_of_target_adds_up_and_is_what_an_intervention_moves(family: str) -> None:
    model = family_model(family)
    coders = toy_coders(model, cross=True)
    graph = graph_of(model, coders, TOKENS_T, targets=[Token(9), Token(30, 4), Token(4, 30)])
    assert graph.conservation.max_relative_to_edges <= 1e-12
    uncapped_V = record(model.hf, model.anatomy, TOKENS_T).uncapped_TV[-1]
    expected = [uncapped_V[9] - uncapped_V.mean(), uncapped_V[30] - uncapped_V[4], uncapped_V[4] - uncapped_V[30]]
    logits = graph.nodes.where(NodeKind.LOGIT)
    torch.testing.assert_close(graph.nodes.value[logits], torch.stack(expected), atol=1e-10, rtol=0)
    assert [target.logit for target in graph.targets] == graph.nodes.value[logits].tolist()
    one, other = dense(graph)[logits][1:]
    torch.testing.assert_close(one, -other, atol=1e-12, rtol=0)

    final = graph.nodes.where(NodeKind.BIAS) & (graph.nodes.layer == graph.n_layers)
    sources = sources_of(graph)[~final[sources_of(graph)]]
    effects = measure(model, coders, graph, TOKENS_T, sources, logits.nonzero()[:, 0])
    torch.testing.assert_close(effects, dense(graph)[logits][:, sources].T, atol=1e-10, rtol=0)
    node = int((graph.nodes.where(NodeKind.FEATURE) & (graph.nodes.layer == 1)).nonzero()[3])
    edit = Edit(1, int(graph.nodes.feature[node]), int(graph.nodes.position[node]), "ablate")
    found = compare(model, coders, graph, [edit], frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)


def test_a_difference_is_the_difference_of_the_two_graphs() -> None:
    model = toy_model(biases=True)
    coders = toy_coders(model)
    graph = graph_of(model, coders, TOKENS_T, targets=[Token(9), Token(30), Token(9, 30)])
    nine, thirty, difference = dense(graph)[graph.nodes.where(NodeKind.LOGIT)]
    torch.testing.assert_close(nine - thirty, difference, atol=1e-12, rtol=0)
    assert [(target.token_id, target.minus_id) for target in graph.targets] == [(9, None), (30, None), (9, 30)]
    probabilities = model.hf(input_ids=TOKENS_T[None]).logits[0, -1].double().softmax(-1)
    assert [target.probability for target in graph.targets] == pytest.approx(probabilities[[9, 30, 9]].tolist())


def test_the_most_likely_tokens_given_by_name_are_the_same_graph() -> None:
    model = toy_model()
    coders = toy_coders(model)
    likely = graph_of(model, coders, TOKENS_T, max_nodes=40, targets_per_sweep=10)
    named = [Token(target.token_id) for target in likely.targets]
    given = graph_of(model, coders, TOKENS_T, max_nodes=40, targets_per_sweep=10, targets=named)
    assert given.edges.targets.equal(likely.edges.targets)
    assert given.edges.weights.equal(likely.edges.weights)
    assert given.targets == likely.targets
    assert (likely.target_rule, given.target_rule) == ("likeliest", "given")


def test_a_direction_is_any_vector_the_unembedding_could_read(tmp_path: Path) -> None:
    model = family_model("gpt2")  # whose final norm has a bias
    coders = toy_coders(model)
    W_U = model.anatomy.W_U_VD
    directions = [Direction("nine less thirty", W_U[9] - W_U[30]), Direction("any", torch.arange(24.0).double(), 0.25)]
    graph = graph_of(model, coders, TOKENS_T, targets=[Token(9, 30), *directions])
    token, same, _ = dense(graph)[graph.nodes.where(NodeKind.LOGIT)]
    torch.testing.assert_close(same, token, atol=1e-12, rtol=0)
    assert graph.conservation.max_relative_to_edges <= 1e-12
    x_D = record(model.hf, model.anatomy, TOKENS_T).final_out_TD[-1]
    assert graph.targets[2].logit == pytest.approx(float(x_D @ directions[1].vector_D), abs=1e-10)
    assert graph.targets[2].probability == 0.25
    save_graph(tmp_path, graph, document(graph, "g", 10))
    assert load_graph(tmp_path).targets == load_document(tmp_path).summary.targets == graph.targets
    labels = [node.label for node in load_document(tmp_path).nodes if node.type == "logit"]
    assert labels == ["<9> − <30>", "nine less thirty", "any"]
    kept, old = load_graph(tmp_path), replace(graph, directions=None)
    logits = set(graph.nodes.where(NodeKind.LOGIT).nonzero()[:, 0].tolist())
    for stored, n in ((kept, 3), (old, 1)):
        checks = verify_edges(model, coders, stored, TOKENS_T, n=10_000)
        assert len({check.target for check in checks} & logits) == n
        assert max(check.relative_error for check in checks) < 1e-7
    node = int((graph.nodes.where(NodeKind.FEATURE) & (graph.nodes.layer == 1)).nonzero()[3])
    edit = Edit(1, int(graph.nodes.feature[node]), int(graph.nodes.position[node]), "scale", 3.0)
    found = compare(model, coders, kept, [edit], frozen=True)
    torch.testing.assert_close(found.measured, found.predicted, atol=1e-10, rtol=0)
    assert found.predicted[-2:].abs().min() > 1e-4, "the directions move"
    whole = curves(model, coders, kept, "zero", Silent()).whole
    start = torch.tensor([target.probability for target in graph.targets], dtype=torch.float64)
    values = torch.tensor([target.logit for target in graph.targets], dtype=torch.float64)
    assert whole == pytest.approx(float(values @ start / start.sum()), abs=1e-9)
    for again in (
        lambda: measure(model, coders, old, TOKENS_T, torch.tensor([0]), graph.edges.targets),
        lambda: compare(model, coders, old, [edit], frozen=True),
    ):
        with pytest.raises(InvalidSpec, match="direction nine less thirty cannot be measured"):
            again()


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        ([], "no target"),
        ([Token(61)], r"no tokens \[61\]"),
        ([Token(3, -1)], r"no tokens \[3, -1\]"),
        ([Token(3, 3)], "less itself"),
        ([Token(3), Token(4), Token(3)], "given twice"),
        ([Direction("short", torch.ones(23))], r"short has the shape \(23,\)"),
        ([Direction("nothing", torch.zeros(24))], "zero"),
        ([Direction("endless", torch.full((24,), torch.inf))], "not finite"),
        ([Direction("heavy", torch.ones(24), 2.0)], "weight 2.0"),
    ],
    ids=str,
)
def test_targets_that_are_not_there_are_refused(targets: list[Token | Direction], match: str) -> None:
    model = toy_model()
    with pytest.raises(InvalidSpec, match=match):
        graph_of(model, toy_coders(model), TOKENS_T, targets=targets)


def test_an_unlikely_target_can_be_explained_too() -> None:
    """Even one whose probability is too small for a float."""
    model = toy_model()
    with torch.no_grad():
        model.anatomy.W_U_VD.mul_(1e4)
    least = int(model.hf(input_ids=TOKENS_T[None]).logits[0, -1].argmin())
    graph = graph_of(model, toy_coders(model), TOKENS_T, targets=[Token(least)])
    assert 0 < graph.targets[0].probability < 1e-300
    assert graph.start.sum() == 1

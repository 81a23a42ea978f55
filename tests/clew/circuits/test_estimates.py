"""What analyses of circuits are said to take, against the bytes that tensors really take."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.test_estimates import SIZES, coder, peak_bytes
from tests.clew.toys import toy_model

from clew.circuits import Graph, attribute, document, load_graph, save_graph
from clew.circuits.faithfulness import faithfulness
from clew.circuits.feature_connections import feature_connections
from clew.circuits.path_document import path_document
from clew.circuits.steering import edit_of, steer
from clew.coders import Coder
from clew.models import Model
from clew.reporting import Silent
from clew_spec.attribution import AttributeSpec
from clew_spec.coders import ReLU, TopK
from clew_spec.connections import ConnectionsSpec
from clew_spec.estimates import Estimate, Facts, GraphFacts, estimate
from clew_spec.estimates.sizes import RUNTIME_BYTES
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.graph import PathFilter
from clew_spec.paths import LogitRoot, PathsSpec
from clew_spec.steering import SteerSpec

pytestmark = pytest.mark.science

TOO_HIGH = 2.0
TOO_HIGH_OF_NEW_GRAPHS = 3.0
"""What nodes are chosen, and so how many edges there are, is known once the model has read the prompt."""
TOKENS_T = torch.randint(3, 60, (60,), generator=torch.Generator().manual_seed(0))
ATTRIBUTE = AttributeSpec(name="g", coders="c", prompt="p", max_nodes=1000)
OPTIONS = {name: getattr(ATTRIBUTE, name) for name in ("max_logits", "desired_logit_prob", "max_nodes")}


@dataclass(frozen=True)
class Case:
    """A graph in a folder, and what it was made with."""

    model: Model
    coders: dict[int, Coder]
    folder: Path
    facts: Facts
    loaded: int
    """Bytes of the weights of model and coders."""
    attributed: int
    """Bytes at most that making the graph took beside them."""

    def graph(self) -> Graph:
        return load_graph(self.folder)


def check(said: Estimate, held: int, too_high: float = TOO_HIGH) -> None:
    assert said.memory is not None
    assert held <= said.memory.bytes - RUNTIME_BYTES <= too_high * held, (held, said.memory)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    model, folder = toy_model(dtype=torch.float32, **SIZES), tmp_path_factory.mktemp("graph")
    coders = {layer: _topk(layer) for layer in range(model.n_layers)}
    graphs: list[Graph] = []

    def work() -> None:
        graph = attribute(
            model, coders, TOKENS_T, targets_per_sweep=512, dtype=torch.float32, report=Silent(), **OPTIONS
        )
        save_graph(folder, graph, document(graph, "g", 300))
        graphs.append(graph)

    held = peak_bytes(work)
    (graph,) = graphs
    found = GraphFacts(
        tokens=len(TOKENS_T), nodes=len(graph.nodes), edges=len(graph.edges), rows=len(graph.edges.targets)
    )
    configs = [each.config for each in coders.values()]
    facts = Facts(model=model.config(), coders=configs, graph=found, prompt_tokens=len(TOKENS_T), device="cpu")
    weights = sum(weight.nbytes for each in coders.values() for weight in each.parameters().values())
    weights += sum(weight.nbytes for weight in model.hf.parameters())
    return Case(model, coders, folder, facts, weights, held)


def _topk(layer: int) -> Coder:
    made = coder(layer)
    weights = {name: weight for name, weight in made.parameters().items() if name != "threshold"}
    return Coder(made.config.model_copy(update={"activation": TopK(k=16)}), **weights)


def of_prompt(case: Case) -> Facts:
    return case.facts.model_copy(update={"graph": None})


def test_attribution_never_holds_more_than_was_said(case: Case) -> None:
    check(estimate(ATTRIBUTE, of_prompt(case)), case.loaded + case.attributed, TOO_HIGH_OF_NEW_GRAPHS)


def test_what_only_the_prompt_tells_is_not_guessed(case: Case) -> None:
    relu = [config.model_copy(update={"activation": ReLU()}) for config in case.facts.coders]
    said = estimate(ATTRIBUTE, of_prompt(case).model_copy(update={"coders": relu}))
    assert said.memory is None
    assert "ReLU" in said.unknown["memory"]
    assert said.flops


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"tokens": 40}], ids=str)
@pytest.mark.parametrize("of_graph", [False, True], ids=["prompt", "graph"])
def test_steering_never_holds_more_than_was_said(case: Case, options: dict[str, Any], of_graph: bool) -> None:
    given = {"graph": "g"} if of_graph else {"coders": "c", "prompt": "p"}
    edit = {"layer": 1, "feature": 5, "operation": "ablate"}
    spec = SteerSpec.model_validate({"edits": [edit], **given, **options})

    def work() -> None:
        steer(
            case.model,
            case.coders,
            TOKENS_T,
            [edit_of(each) for each in spec.edits],
            frozen=spec.frozen,
            n_tokens=spec.tokens,
            graph=case.graph() if of_graph else None,
        )

    check(estimate(spec, case.facts if of_graph else of_prompt(case)), case.loaded + peak_bytes(work))


def test_faithfulness_never_holds_more_than_was_said(case: Case) -> None:
    spec = FaithfulnessSpec(graph="g", nodes=4, edges=20, paraphrases=["a", "b", "c"])
    paraphrases = [(text, TOKENS_T.roll(n)) for n, text in enumerate(spec.paraphrases)]
    asked: dict[str, Any] = {"nodes": spec.nodes, "edges": spec.edges, "ablation": spec.ablation}

    def work() -> None:
        faithfulness(case.model, case.coders, case.graph(), paraphrases=paraphrases, report=Silent(), **asked)

    check(estimate(spec, case.facts), case.loaded + peak_bytes(work), TOO_HIGH_OF_NEW_GRAPHS)


def test_connections_never_hold_more_than_was_said(case: Case) -> None:
    spec = ConnectionsSpec(coders="c", layer=1, feature=5)
    names = ("upstream", "downstream", "strongest_heads", "tokens")
    asked: dict[str, Any] = {name: getattr(spec, name) for name in names}

    def work() -> None:
        feature_connections(case.model, case.coders, spec.layer, spec.feature, report=Silent(), **asked)

    check(estimate(spec, case.facts), case.loaded + peak_bytes(work))


@pytest.mark.parametrize("max_length", [None, 6])
@pytest.mark.parametrize("through", [0, 3])
@pytest.mark.parametrize("difference", [False, True])
def test_paths_never_hold_more_than_was_said(
    case: Case, max_length: int | None, through: int, difference: bool
) -> None:
    first, second = (target.token for target in case.graph().targets[:2])
    root = LogitRoot(token=first, minus=second) if difference else None
    filters = [PathFilter(types=["feature"])] * through
    spec = PathsSpec(graph="g", root=root, max_length=max_length, through=filters)
    work: Callable[[], object] = lambda: path_document(  # noqa: E731
        case.graph(), root, k=spec.paths, max_length=max_length, through=filters
    )
    check(estimate(spec, case.facts), peak_bytes(work))

"""What analyses of circuits are said to take, against the bytes that tensors really take."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.families import CONTEXT, FAMILIES, LAYERS, family_model
from tests.clew.test_estimates import SIZES, coder, peak_bytes
from tests.clew.toys import toy_model
from tests.clew.training.conftest import make_dataset

from clew.circuits import Graph, attribute, document, load_graph, save_graph
from clew.circuits.faithfulness import faithfulness
from clew.circuits.feature_connections import feature_connections
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NodeKind
from clew.circuits.mean_edges import mean_edges
from clew.circuits.path_document import path_document
from clew.circuits.qk import qk_document
from clew.circuits.splits import split_stored
from clew.circuits.steering import edit_of, steer
from clew.circuits.sweep import sweep
from clew.coders import Coder
from clew.models import Model
from clew.reporting import Silent
from clew_spec.attribution import AttributeSpec
from clew_spec.coders import ReLU, TopK
from clew_spec.connections import ConnectionsSpec
from clew_spec.edges import EdgeSpec
from clew_spec.estimates import DatasetFacts, Estimate, Facts, GraphFacts, estimate
from clew_spec.estimates.frozen import swept
from clew_spec.estimates.sizes import RUNTIME_BYTES
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.graph import PathFilter
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.paths import LogitRoot, PathsSpec
from clew_spec.qk import QKSpec
from clew_spec.steering import SteerSpec

pytestmark = pytest.mark.science

TOO_HIGH = 2.0
TOO_HIGH_OF_NEW_GRAPHS = 3.0
"""What nodes are chosen, and so how many edges there are, is known once the model has read the prompt."""
TOO_HIGH_OF_SWEEPS = 3.0
"""Families differ in how many norms the vectors pass."""
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
    coders = {layer: coder(layer, activation=TopK(k=16)) for layer in range(model.n_layers)}
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
        tokens=len(TOKENS_T),
        nodes=len(graph.nodes),
        edges=len(graph.edges),
        rows=len(graph.edges.targets),
        targets=len(graph.targets),
    )
    configs = [each.config for each in coders.values()]
    facts = Facts(model=model.config(), coders=configs, graph=found, prompt_tokens=len(TOKENS_T), device="cpu")
    weights = sum(weight.nbytes for each in coders.values() for weight in each.parameters().values())
    weights += sum(weight.nbytes for weight in model.hf.parameters())
    return Case(model, coders, folder, facts, weights, held)


def of_prompt(case: Case) -> Facts:
    return case.facts.model_copy(update={"graph": None})


def test_attribution_never_holds_more_than_was_said(case: Case) -> None:
    check(estimate(ATTRIBUTE, of_prompt(case)), case.loaded + case.attributed, TOO_HIGH_OF_NEW_GRAPHS)


@pytest.mark.parametrize("kind", ["transcoder", "skip-transcoder"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sweep_through_every_family_is_bounded(family: str, kind: str) -> None:
    model = family_model(family, dtype=torch.float32)
    coders = {layer: coder(layer, d_model=model.d_model, activation=TopK(k=4), kind=kind) for layer in range(LAYERS)}
    T = CONTEXT
    network = FrozenNetwork(
        model, coders, torch.arange(T) % 50 + 3, max_logits=1, desired_logit_prob=1.0, dtype=torch.float32
    )
    nodes = network.nodes
    targets = (nodes.where(NodeKind.FEATURE) & (nodes.layer > 0)).nonzero()[-100:, 0]
    held = peak_bytes(lambda: sweep(network, targets))
    configs = [each.config for each in coders.values()]
    said = swept(model.config(), configs, T, len(nodes), len(targets))
    assert held <= said <= TOO_HIGH_OF_SWEEPS * held


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


def test_an_edge_never_holds_more_than_was_said(case: Case) -> None:
    spec = EdgeSpec(graph="g", source="token@3", target="logit")
    first_logit = len(case.graph().nodes) - len(case.graph().targets)

    def work() -> None:
        split_stored(case.model, case.coders, case.graph(), 3, first_logit)

    held = case.loaded + peak_bytes(work)
    check(estimate(spec, case.facts), held)
    relu = [config.model_copy(update={"activation": ReLU()}) for config in case.facts.coders]
    said = estimate(spec, case.facts.model_copy(update={"coders": relu})).memory
    assert said is not None, "the graph tells how many features are active"
    assert held <= said.bytes - RUNTIME_BYTES


@pytest.mark.parametrize("against", [None, 9])
def test_a_heads_score_never_holds_more_than_was_said(case: Case, against: int | None) -> None:
    spec = QKSpec(graph="g", head="L3H5", query=50, key=20, against=against)

    def work() -> None:
        qk_document(case.model, case.coders, case.graph(), 3, 5, 50, 20, against, top=spec.top)

    check(estimate(spec, case.facts), case.loaded + peak_bytes(work))


@pytest.mark.parametrize("cap", [False, True])
@pytest.mark.parametrize("always", [False, True])
def test_means_over_data_never_hold_more_than_was_said(case: Case, tmp_path: Path, cap: bool, always: bool) -> None:
    """Of a feature that is seldom active less is held: the most that may be is said."""
    dataset = make_dataset(tmp_path, train=8, heldout=4, context=128)
    spec = MeanEdgesSpec(coders="c", layer=3, feature=5, capped=cap, tokens=256)
    coders = case.coders | {3: _always_active(case.coders[3], 5)} if always else case.coders

    def work() -> None:
        asked: dict[str, Any] = {"tokens": spec.tokens, "firings": spec.firings, "cap": cap, "top": spec.top}
        mean_edges(case.model, coders, dataset.heldout, 3, 5, **asked, dtype=torch.float32, report=Silent())

    manifest = dataset.manifest
    of_data = DatasetFacts(
        context=manifest.context, train_tokens=manifest.train_tokens, heldout_tokens=manifest.heldout_tokens
    )
    said = estimate(spec, of_prompt(case).model_copy(update={"dataset": of_data}))
    check(said, case.loaded + peak_bytes(work), TOO_HIGH if always else 10.0)


def _always_active(made: Coder, feature: int) -> Coder:
    weights = {name: weight.clone() for name, weight in made.parameters().items()}
    weights["b_enc"][feature] = 100.0
    return Coder.of(made.config, weights)

"""Whether the model does what a graph says: edges, steering, influence, curves and paraphrases (after Ameisen et al.,
Circuit Tracing, 2025, and the Mechanistic Interpretability Benchmark, 2025). Everything follows from the seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from clew.circuits.agreement import agreement, spearman
from clew.circuits.faithfulness_curves import curves
from clew.circuits.faithfulness_stability import stability
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.influence import node_influence
from clew.circuits.interventions import Edit, compare, intervene
from clew.circuits.replacement import Coder
from clew.circuits.verification import verify_edges
from clew.models import Model
from clew.reporting import Report, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.faithfulness import Ablation, EdgeChecks, Faithfulness, InfluenceCheck, Steering
from clew_spec.steering import Agreement


def faithfulness(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    *,
    nodes: int,
    edges: int,
    ablation: Ablation,
    paraphrases: Sequence[tuple[str, Tensor]] = (),
    top: int = 50,
    seed: int = 0,
    report: Report,
) -> Faithfulness:
    """`graph` of `model` and `coders`, tried out on its own prompt; `paraphrases` are texts with their tokens.

    Raises InvalidSpec for a graph without selected features, and StopRequested between trials.
    """
    chosen = sample(graph, nodes, seed)
    if not len(chosen):
        raise InvalidSpec("the graph has no feature with incoming edges to try out", where="/spec/graph")
    tokens_T = torch.tensor(graph.token_ids)
    report.progress("edges", 0, 1, "checks")
    errors = [each.relative_error for each in verify_edges(model, coders, graph, tokens_T, n=edges, seed=seed)]
    if not errors:
        raise InvalidSpec("the graph has no edge to measure", where="/spec/graph")
    trials = _trials(model, coders, graph, chosen, seed, report)
    return Faithfulness(
        conservation=graph.conservation,
        checks=EdgeChecks(edges=len(errors), median=statistics.median(errors), largest=max(errors)),
        steering=_steering(graph, trials),
        influence=_influence(graph, chosen, trials),
        curves=curves(model, coders, graph, ablation, report),
        stability=stability(model, coders, graph, paraphrases, top, report) if paraphrases else None,
        seed=seed,
    )


def sample(graph: Graph, n: int, seed: int) -> Tensor:
    """int64[<= n], ascending: selected features, one drawn from each of `n` equal parts of the ranking by influence."""
    selected = (graph.nodes.where(NodeKind.FEATURE) & ~graph.leaves).nonzero()[:, 0]
    ranked = selected[node_influence(graph)[selected].argsort(descending=True, stable=True)]
    generator = torch.Generator().manual_seed(seed)
    parts = ranked.tensor_split(min(n, len(ranked))) if len(ranked) else ()
    drawn = [part[torch.randint(len(part), (1,), generator=generator)] for part in parts]
    return torch.cat(drawn).sort().values if drawn else selected


@dataclass(frozen=True)
class _Trials:
    """Rows are ablated features, columns the graph's rows: features and logits."""

    predicted_NR: Tensor
    measured_NR: Tensor
    control_NR: Tensor
    """Measured with a random direction in place of the feature's."""


def _trials(
    model: Model, coders: Mapping[int, Coder], graph: Graph, chosen: Tensor, seed: int, report: Report
) -> _Trials:
    generator = torch.Generator().manual_seed(seed)
    nodes, found = graph.nodes, list[tuple[Tensor, Tensor, Tensor]]()
    clean = intervene(model, coders, torch.tensor(graph.token_ids), (), frozen=False).before
    for done, node in enumerate(chosen.tolist()):
        if report.stop_requested():
            raise StopRequested
        report.progress("ablate", done, len(chosen), "features")
        layer, feature = int(nodes.layer[node]), int(nodes.feature[node])
        edits = [Edit(layer, feature, int(nodes.position[node]), "ablate")]
        real = compare(model, coders, graph, edits, frozen=False, before=clean)
        strange = {**coders, layer: cast(Coder, _Redirected(coders[layer], feature, generator))}
        control = compare(model, strange, graph, edits, frozen=False, before=clean)
        found.append((real.predicted, real.measured, control.measured))
    return _Trials(*(torch.stack(column) for column in zip(*found, strict=True)))


class _Redirected:
    """A coder that writes a random direction, of the norm of one of its features, for any feature.

    Only that feature is edited, so no other is ever asked for; nothing as large as a decoder is made.
    """

    def __init__(self, coder: Coder, feature: int, generator: torch.Generator) -> None:
        self._coder = coder

        def other(W_FD: Tensor) -> Tensor:
            direction_D = torch.randn(W_FD.shape[1], generator=generator, dtype=torch.float64).to(W_FD)
            written_D: Tensor = direction_D * W_FD[feature].norm() / direction_D.norm()
            return written_D.expand_as(W_FD)

        self.W_dec = other(coder.W_dec)
        self.W_later = {layer: other(W_FD) for layer, W_FD in coder.W_later.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coder, name)


def _steering(graph: Graph, trials: _Trials) -> Steering:
    of_logit = graph.nodes.where(NodeKind.LOGIT)[graph.edges.targets]

    def over(columns: Tensor, measured_NR: Tensor) -> Agreement:
        return agreement(trials.predicted_NR[:, columns].flatten(), measured_NR[:, columns].flatten())

    everything = torch.ones_like(of_logit)
    return Steering(
        features=len(trials.predicted_NR),
        logits=over(of_logit, trials.measured_NR),
        nodes=over(everything, trials.measured_NR),
        control_logits=over(of_logit, trials.control_NR),
        control_nodes=over(everything, trials.control_NR),
    )


def _influence(graph: Graph, chosen: Tensor, trials: _Trials) -> InfluenceCheck:
    of_logit = graph.nodes.where(NodeKind.LOGIT)[graph.edges.targets]
    weights = graph.start[graph.edges.targets[of_logit]]
    effect_N = trials.measured_NR[:, of_logit].abs() @ weights
    return InfluenceCheck(features=len(chosen), spearman=spearman(node_influence(graph)[chosen], effect_N))

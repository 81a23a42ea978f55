"""A prompt with some of its features changed: what the model makes of it, beside what a graph says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.agreement import agreement
from clew.circuits.attribution import text_of
from clew.circuits.graph import NODE_TYPES, Graph, NodeKind
from clew.circuits.interventions import Comparison, Edit, Effect, compare, continuation, intervene
from clew.circuits.replacement import Coder
from clew.models import Model
from clew_spec.graph import Position0
from clew_spec.steering import EditedActivation, FeatureEdit, Movement, NextToken, Prediction

MOVEMENTS = 50
"""Features of a graph whose movements are told."""


@dataclass(frozen=True)
class Steered:
    next_tokens: list[NextToken]
    kl: float
    activations: list[EditedActivation]
    continued_before: list[int]
    """Token ids."""
    continued_after: list[int]
    prediction: Prediction | None


def edit_of(spec: FeatureEdit) -> Edit:
    return Edit(spec.layer, spec.feature, slice(spec.start, spec.stop), spec.operation, spec.value or 0.0)


@torch.inference_mode()
def steer(
    model: Model,
    coders: Mapping[int, Coder],
    tokens_T: Tensor,
    edits: Sequence[Edit],
    *,
    frozen: bool = False,
    n_tokens: int = 0,
    top: int = 10,
    graph: Graph | None = None,
) -> Steered:
    """What edits do to the next token, to the edited features and to `n_tokens` generated ones.

    `graph` is the prompt's, if there is one. Generation is free, so ask for none while frozen. Raises InvalidSpec as
    `intervene` and, with a graph, `compare`.
    """
    position_0: Position0 = "error" if graph is None else graph.position_0
    effect = intervene(model, coders, tokens_T, edits, frozen=frozen, position_0=position_0)
    before_V, after_V = (state.logits_TV[-1].double().log_softmax(-1) for state in (effect.before, effect.after))
    return Steered(
        next_tokens=_next_tokens(model, before_V.exp(), after_V.exp(), top),
        kl=max(0.0, float((before_V.exp() * (before_V - after_V)).sum())),
        activations=_activations(coders, effect, edits, frozen=frozen, position_0=position_0),
        continued_before=continuation(model, coders, tokens_T, (), n_tokens) if n_tokens else [],
        continued_after=(
            continuation(model, coders, tokens_T, edits, n_tokens, position_0=position_0) if n_tokens else []
        ),
        prediction=None if graph is None else prediction(graph, compare(model, coders, graph, edits, frozen=frozen)),
    )


def prediction(graph: Graph, found: Comparison) -> Prediction:
    nodes = graph.nodes
    of_logit = nodes.where(NodeKind.LOGIT)[found.targets]
    farthest = torch.maximum(found.predicted.abs(), found.measured.abs())
    logits = of_logit.nonzero()[:, 0]
    features = (~of_logit & (farthest > 0)).nonzero()[:, 0]
    features = features[farthest[features].argsort(descending=True, stable=True)[:MOVEMENTS]]
    movements = []
    for row in [*logits.tolist(), *features.tolist()]:
        node = int(found.targets[row])
        feature, token_id = int(nodes.feature[node]), int(nodes.token_id[node])
        movements.append(
            Movement(
                node=node,
                type=NODE_TYPES[NodeKind(int(nodes.kind[node]))],
                layer=int(nodes.layer[node]),
                position=int(nodes.position[node]),
                feature=feature if feature >= 0 else None,
                token_id=token_id if token_id >= 0 else None,
                predicted=float(found.predicted[row]),
                measured=float(found.measured[row]),
            )
        )
    return Prediction(
        agreement=agreement(found.predicted, found.measured),
        logits=agreement(found.predicted[logits], found.measured[logits]),
        movements=movements,
    )


def _next_tokens(model: Model, before_V: Tensor, after_V: Tensor, top: int) -> list[NextToken]:
    ids = torch.maximum(before_V, after_V).topk(min(top, len(before_V))).indices.tolist()
    return [
        NextToken(token=text_of(model, [id]), token_id=id, before=float(before_V[id]), after=float(after_V[id]))
        for id in ids
    ]


def _activations(
    coders: Mapping[int, Coder], effect: Effect, edits: Sequence[Edit], *, frozen: bool, position_0: Position0
) -> list[EditedActivation]:
    """Of every feature and position of the prompt that an edit names, in the order of layers, features, positions."""
    told = []
    for layer, feature in sorted({(edit.layer, edit.feature) for edit in edits}):
        before_T = effect.before.activation(coders[layer], feature)
        # frozen, a feature is what it was on the clean prompt, as its MLP is
        after_T = before_T.clone() if frozen else effect.after.activation(coders[layer], feature)
        edited: set[int] = set()
        for edit in edits:
            if (edit.layer, edit.feature) == (layer, feature):
                at = edit.positions(len(before_T), position_0)
                after_T[at] = edit.applied(after_T[at])
                edited.update(at)
        told += [
            EditedActivation(
                layer=layer, feature=feature, position=t, before=float(before_T[t]), after=float(after_T[t])
            )
            for t in sorted(edited)
        ]
    return told

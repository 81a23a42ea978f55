"""The stages of the study on the model itself: what it does, and which heads and MLPs do it."""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from clew.models.recording import Hook
from studies.greater_than.contributions import counted_mean, decade_effect, direct_effects
from studies.greater_than.last_position import LastPosition, over_decades, set_heads, set_mlp
from studies.greater_than.prompts import (
    DECADES,
    Prompts,
    digit_probabilities,
    logit_difference,
    probability_difference,
)
from studies.greater_than.results import Behaviour, HeadTrial, Mean, Outcome, Places

CONTROLS = 20


def outcome(prompts: Prompts, logits_BV: Tensor) -> Outcome:
    return Outcome(
        decade_effect=float(counted_mean(prompts, decade_effect(prompts, logits_BV))),
        probability_difference=float(counted_mean(prompts, probability_difference(prompts, logits_BV))),
    )


def mean_of(values: Sequence[float]) -> Mean:
    return Mean(mean=statistics.mean(values), deviation=statistics.stdev(values) if len(values) > 1 else 0.0)


def behaviour(prompts: Prompts, last: LastPosition) -> Behaviour:
    logits_BV = last.seen.logits_BV
    p_BY = digit_probabilities(prompts, logits_BV)
    p_YY = p_BY.unflatten(0, (-1, DECADES)).mean(0)

    def by_context(x_B: Tensor) -> Mean:
        counted_NY = x_B[prompts.counted_B].unflatten(0, (len(prompts.contexts), -1))
        return mean_of(counted_NY.mean(1).tolist())

    return Behaviour(
        prompts=len(prompts),
        contexts=len(prompts.contexts),
        probabilities=p_YY.tolist(),
        digits=float(p_BY.sum(-1).mean()),
        probability_difference=by_context(probability_difference(prompts, logits_BV)),
        below=float(p_YY.tril(-1)[1:].sum(-1).mean()),
        own=float(p_YY.diagonal().mean()),
        logit_difference=by_context(logit_difference(prompts, logits_BV)),
        decade_effect=float(counted_mean(prompts, decade_effect(prompts, logits_BV))),
    )


def find_places(prompts: Prompts, last: LastPosition) -> Places:
    """What is left of the decade effect with each MLP, each layer's heads and, where those count most, each head
    levelled: given its mean over the start decades."""
    model, seen = last.model, last.seen
    n_heads = seen.heads_LBHE.shape[2]

    def left(*hooks: Hook) -> float:
        return outcome(prompts, last.logits(*hooks)).decade_effect

    mlps = [left(level_mlp(last, layer)) for layer in range(model.n_layers)]
    attention = [left(level_heads(last, i, range(n_heads))) for i in range(model.n_layers)]
    least = torch.tensor(attention).argsort()[:3].tolist()
    heads = []
    for layer in least:
        for head in range(n_heads):
            looks = float(seen.patterns_LBHT[layer, :, head, prompts.start_position].mean())
            heads.append((layer, head, left(level_heads(last, layer, [head])), looks))
    return Places(
        without_attention=attention,
        without_mlp=mlps,
        direct_mlp=direct_effects(last, prompts).mlps_L[0].tolist(),
        heads=sorted(heads, key=lambda each: each[2]),
    )


def level_mlp(last: LastPosition, layer: int) -> Hook:
    return set_mlp(last.model, layer, over_decades(last.seen.mlp_out_LBD[layer]))


def level_mlps(prompts: Prompts, last: LastPosition, layers: Sequence[int]) -> Outcome:
    """With what the MLPs of these layers say of the decade taken out."""
    return outcome(prompts, last.logits(*(level_mlp(last, layer) for layer in layers)))


def level_heads(last: LastPosition, layer: int, heads: Sequence[int]) -> Hook:
    return set_heads(last.model, layer, heads, over_decades(last.seen.heads_LBHE[layer]))


def try_head(prompts: Prompts, last: LastPosition, places: Places, seed: int = 0) -> HeadTrial:
    """The first of `places.heads` levelled, against as many random heads, one at a time, of the layers from 15 on."""
    layer, head, *_ = places.heads[0]
    n_layers, n_heads = len(last.seen.heads_LBHE), last.seen.heads_LBHE.shape[2]
    others = [(i, h) for i in range(n_layers // 2, n_layers) for h in range(n_heads) if (i, h) != (layer, head)]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:CONTROLS].tolist()

    def without(i: int, h: int) -> Outcome:
        return outcome(prompts, last.logits(level_heads(last, i, [h])))

    return HeadTrial(
        layer=layer, head=head, outcome=without(layer, head), controls=[without(*others[number]) for number in order]
    )

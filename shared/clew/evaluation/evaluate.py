"""Measure coders on held-out tokens: how much of what they should write they miss, and what that costs the model.

A text is what tokens attend within: a whole row, or a document's part of it. What it begins with is an attention sink:
it keeps its true activation in every splice and ablation and never counts. In a text of n tokens FVU, L0, L1,
frequencies and means are over positions 1 .. n-1; cross-entropy, KL and agreement are over positions 1 .. n-2, each
predicting the token after it. Position n-1 has none. Rows so hold different numbers of both, or none of them.
`clew_spec.evaluation` has each metric's formula.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.coders import Coder, Reconstruction, require_whole
from clew.data import Rows
from clew.evaluation.predictions import Predictions
from clew.evaluation.replacement import HOOKS, in_order
from clew.evaluation.tallies import Alone, Together
from clew.models import Model, hook_activations, trace
from clew.reporting import Report, Silent, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import AllReplaced, CoderMetrics


@dataclass(frozen=True)
class Evaluation:
    coders: list[CoderMetrics]
    """Each alone in the model, by layer."""
    all_replaced: AllReplaced | None
    """None for one coder, where it was not asked for, and where a coder reads what comes after what it writes."""


@torch.inference_mode()
def evaluate(
    model: Model,
    coders: Mapping[int, Coder],
    rows: Rows,
    *,
    tokens: int,
    rows_per_batch: int = 4,
    mean_ablation: bool = True,
    replace_all: bool = True,
    report: Report | None = None,
) -> Evaluation:
    """The metrics of each coder and of all at once, on as many rows as hold `tokens` (or on all there are).

    Rows are spread evenly over the split, and always the same. A first pass over them, down to the deepest coder, finds
    the means that FVU and mean ablation are about. Then there is one pass of the model a batch; each splice goes on
    from its layer's cached residual stream. Sums are per row, in the order of the rows and in float64, so the results
    do not depend on `rows_per_batch` beyond the rounding of the model itself.

    Raises:
        InvalidSpec: a coder does not fit the model, coders are a part of a cross-layer transcoder, or all texts are
            too short to predict from.
        StopRequested: the report asked to stop.
    """
    report = report or Silent()
    context = rows.context
    coders = dict(sorted(coders.items()))
    _check(model, coders)
    chosen = rows.spread(tokens)
    numbers = [chosen[start : start + rows_per_batch] for start in range(0, len(chosen), rows_per_batch)]
    if not any(rows.batch(each).predicting_BT.any() for each in numbers):
        raise InvalidSpec("texts are too short to predict from", where="/spec/dataset", expected="at least 3 tokens")
    means = _means(model, coders, rows, numbers, report)
    alone = {layer: Alone(coder, means[layer], mean_ablation=mean_ablation) for layer, coder in coders.items()}
    at_once = replace_all and len(coders) > 1 and all(in_order(coder.hooks) for coder in coders.values())
    together = Together(coders, means, mean_ablation=mean_ablation) if at_once else None
    done, passes = 0, len(chosen) * (len(alone) + at_once)

    def advance(n_rows: int) -> None:
        nonlocal done
        done += n_rows
        report.progress("evaluating", done * context, passes * context, "tokens")

    for each in numbers:
        batch = rows.batch(each).to(model.device)
        seen = trace(model, batch.tokens_BT, list(alone), batch.positions_BT)
        own = Predictions(model, batch, seen.logits_BTV)
        reconstruction = Reconstruction(coders)
        for tally in alone.values():
            _stop_if_asked(report)
            tally.update(model, batch, seen, own, reconstruction)
            advance(len(batch))
        if together is not None:
            _stop_if_asked(report)
            together.update(model, batch, own)
            advance(len(batch))
    return Evaluation(
        coders=[tally.metrics(rows.attention) for tally in alone.values()],
        all_replaced=together.metrics(rows.attention) if together is not None else None,
    )


def _means(
    model: Model, coders: Mapping[int, Coder], rows: Rows, numbers: list[list[int]], report: Report
) -> dict[int, Tensor]:
    """By layer, float64 [D]: the mean of what each coder should write, over the evaluated tokens."""
    places = {layer: (layer, coder.hooks[1]) for layer, coder in coders.items()}
    sums = dict.fromkeys(coders, torch.zeros(model.d_model, dtype=torch.float64, device=model.device))
    done = n_tokens = 0
    for each in numbers:
        _stop_if_asked(report)
        batch = rows.batch(each).to(model.device)
        held = hook_activations(model, batch.tokens_BT, set(places.values()), batch.positions_BT)
        counted_BT = batch.counted_BT
        for layer, place in places.items():
            for y_TD, counted_T in zip(held[place], counted_BT, strict=True):
                sums[layer] = sums[layer] + y_TD[counted_T].double().sum(0)
        n_tokens += int(counted_BT.sum())
        done += len(batch)
        report.progress("averaging", done * rows.context, sum(map(len, numbers)) * rows.context, "tokens")
    return {layer: sum_D / n_tokens for layer, sum_D in sums.items()}


def _stop_if_asked(report: Report) -> None:
    if report.stop_requested():
        raise StopRequested


def _check(model: Model, coders: Mapping[int, Coder]) -> None:
    for layer, coder in coders.items():
        if not 0 <= layer < model.n_layers:
            raise InvalidSpec(
                f"the model has no layer {layer}",
                where="/spec/coders",
                expected=f"layers between 0 and {model.n_layers - 1}",
            )
        if not {*coder.hooks} <= {*HOOKS}:
            raise InvalidSpec(
                f"the coder at layer {layer} reads {coder.hooks[0]} and writes {coder.hooks[1]}",
                where="/spec/coders",
                expected=f"hooks out of {', '.join(HOOKS)}",
            )
        if (coder.config.d_in, coder.config.d_out) != (model.d_model, model.d_model):
            raise InvalidSpec(
                f"the coder at layer {layer} maps {coder.config.d_in} to {coder.config.d_out} dimensions",
                where="/spec/coders",
                expected=f"{model.d_model} to {model.d_model}",
            )
    require_whole(coders)

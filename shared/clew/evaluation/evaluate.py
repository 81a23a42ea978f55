"""Measure coders on held-out tokens: how much of what they should write they miss, and what that costs the model.

Position 0 of a row is an attention sink: it keeps its true activation in every splice and ablation and never counts.
FVU, L0 and dead features are over positions 1 .. T-1; cross-entropies are over positions 1 .. T-2, each predicting the
token after it. Position T-1 has none.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clew.coders import Coder
from clew.data import Rows
from clew.evaluation.fvu import Fvu
from clew.models import Model, Trace, logits_from, trace
from clew.models.recording import written_by
from clew.reporting import Report, Silent, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.evaluation import CoderMetrics


@torch.inference_mode()
def evaluate(
    model: Model,
    coders: Mapping[int, Coder],
    rows: Rows,
    *,
    tokens: int,
    rows_per_batch: int = 4,
    report: Report | None = None,
) -> list[CoderMetrics]:
    """The metrics of each coder, alone in the model, on the first rows that hold `tokens` (or on all there are).

    One pass of the model a batch; each splice goes on from its layer's cached residual stream. Sums are float64, so the
    results do not depend on `rows_per_batch` beyond the rounding of the model itself.

    Raises:
        InvalidSpec: a coder does not fit the model, or rows are too short to predict from.
        StopRequested: the report asked to stop.
    """
    report = report or Silent()
    context = rows.context
    _check(model, coders, context)
    n_rows = min(len(rows), math.ceil(tokens / context))
    tallies = {layer: _Tally(coder) for layer, coder in sorted(coders.items())}
    ce_original = 0.0
    done, passes = 0, n_rows * len(tallies)
    for start in range(0, n_rows, rows_per_batch):
        tokens_BT = rows[slice(start, min(start + rows_per_batch, n_rows))].to(model.device)
        seen = trace(model, tokens_BT, list(tallies))
        ce_original += _cross_entropy(seen.logits_BTV, tokens_BT)
        for layer, tally in tallies.items():
            if report.stop_requested():
                raise StopRequested
            tally.update(model, seen, layer, tokens_BT)
            done += len(tokens_BT)
            report.progress("evaluating", done * context, passes * context, "tokens")
    predictions = n_rows * (context - 2)
    return [tally.metrics(layer, ce_original / predictions, predictions) for layer, tally in tallies.items()]


class _Tally:
    """What is summed for one coder."""

    def __init__(self, coder: Coder) -> None:
        self.coder = coder
        self.fvu = Fvu()
        self.active_F = torch.zeros(coder.config.n_features, dtype=torch.int64, device=coder.b_enc.device)
        self.ce_spliced = self.ce_zero = 0.0

    def update(self, model: Model, seen: Trace, layer: int, tokens_BT: Tensor) -> None:
        hook_in, hook_out = self.coder.hooks
        y_BTD = _held(seen, layer, hook_out)
        x_ND, y_ND = _held(seen, layer, hook_in)[:, 1:].flatten(0, 1), y_BTD[:, 1:].flatten(0, 1)
        x_ND = x_ND.to(self.coder.W_enc.dtype)
        indices_NK, values_NK = self.coder.encode(x_ND)
        y_hat_ND = self.coder.decode(indices_NK, values_NK, x_ND)
        self.fvu.update(y_ND, y_hat_ND)
        self.active_F += torch.bincount(indices_NK[values_NK > 0], minlength=len(self.active_F))

        spliced_BTD, zero_BTD = y_BTD.clone(), y_BTD.clone()
        spliced_BTD[:, 1:] = y_hat_ND.view_as(y_BTD[:, 1:]).to(y_BTD.dtype)
        zero_BTD[:, 1:] = 0
        self.ce_spliced += _cross_entropy(_logits(model, seen, layer, hook_out, spliced_BTD), tokens_BT)
        self.ce_zero += _cross_entropy(_logits(model, seen, layer, hook_out, zero_BTD), tokens_BT)

    def metrics(self, layer: int, ce_original: float, predictions: int) -> CoderMetrics:
        ce_spliced, ce_zero = self.ce_spliced / predictions, self.ce_zero / predictions
        gap = ce_zero - ce_original
        dead = int((self.active_F == 0).sum())
        return CoderMetrics(
            layer=layer,
            tokens=self.fvu.tokens,
            fvu=self.fvu.value(),
            l0=int(self.active_F.sum()) / self.fvu.tokens,
            dead=dead,
            dead_fraction=dead / len(self.active_F),
            ce_original=ce_original,
            ce_spliced=ce_spliced,
            ce_zero=ce_zero,
            loss_recovered=(ce_zero - ce_spliced) / gap if gap != 0 else None,
        )


def _held(seen: Trace, layer: int, hook: str) -> Tensor:
    """[B, T, D] at one hook."""
    match hook:
        case "mlp.in":
            return seen.mlp_in[layer]
        case "mlp.out":
            return seen.mlp_out[layer]
        case _:
            return seen.resid_mid[layer] + seen.mlp_out[layer]


def _logits(model: Model, seen: Trace, layer: int, hook: str, instead_BTD: Tensor) -> Tensor:
    """[B, T, V] with other activations at one hook."""
    match hook:
        case "mlp.in":
            instead_BTD = written_by(model.anatomy.blocks[layer].mlp(instead_BTD))
        case "resid":
            instead_BTD = instead_BTD - seen.resid_mid[layer]
    return logits_from(model, seen, layer, instead_BTD)


def _cross_entropy(logits_BTV: Tensor, tokens_BT: Tensor) -> float:
    """Sum over positions 1 .. T-2 of -log p(next token), in nats. Row by row: logits are the largest thing here."""
    total = torch.zeros((), dtype=torch.float64, device=logits_BTV.device)
    for logits_TV, tokens_T in zip(logits_BTV, tokens_BT, strict=True):
        logits_TV = logits_TV[1:-1]
        logits_TV = logits_TV if logits_TV.dtype == torch.float64 else logits_TV.float()
        total += cross_entropy(logits_TV, tokens_T[2:], reduction="none").double().sum()
    return float(total)


def _check(model: Model, coders: Mapping[int, Coder], context: int) -> None:
    for layer, coder in coders.items():
        if not 0 <= layer < model.n_layers:
            raise InvalidSpec(
                f"the model has no layer {layer}",
                where="/spec/coders",
                expected=f"layers between 0 and {model.n_layers - 1}",
            )
        if not {*coder.hooks} <= {"mlp.in", "mlp.out", "resid"}:
            raise InvalidSpec(
                f"the coder at layer {layer} reads {coder.hooks[0]} and writes {coder.hooks[1]}",
                where="/spec/coders",
                expected="hooks mlp.in, mlp.out or resid",
            )
        if (coder.config.d_in, coder.config.d_out) != (model.d_model, model.d_model):
            raise InvalidSpec(
                f"the coder at layer {layer} maps {coder.config.d_in} to {coder.config.d_out} dimensions",
                where="/spec/coders",
                expected=f"{model.d_model} to {model.d_model}",
            )
    if context < 3:
        raise InvalidSpec("rows are too short to predict from", where="/spec/dataset", expected="at least 3 tokens")

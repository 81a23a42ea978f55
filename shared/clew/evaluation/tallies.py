"""What is summed over batches, for one coder alone in the model and for all of a set at once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clew.coders import Coder, Reconstruction
from clew.data import Batch
from clew.evaluation.estimates import Estimate, RowSums, by_row, loss_recovered, ratio
from clew.evaluation.frequencies import firing
from clew.evaluation.fvu import Fvu
from clew.evaluation.predictions import Predictions
from clew.evaluation.replacement import Write, last_resid, replaced
from clew.models import Model, Trace, resid_from
from clew.models.recording import written_by
from clew_spec.datasets import Attention
from clew_spec.evaluation import AllReplaced, CoderMetrics, ReplacedLayer


class Alone:
    """One coder in place of what its `hook_out` holds, on the original model's activations."""

    def __init__(self, coder: Coder, mean_D: Tensor, *, mean_ablation: bool) -> None:
        self.coder = coder
        self.mean_D = mean_D
        self.mean_ablation = mean_ablation
        self.rows = RowSums()
        self.active_F = torch.zeros(coder.config.n_features, dtype=torch.int64, device=coder.b_enc.device)

    def update(self, model: Model, batch: Batch, seen: Trace, own: Predictions, reconstruction: Reconstruction) -> None:
        counted_BT = batch.counted_BT
        coder, (hook_in, hook_out) = self.coder, self.coder.hooks
        y_BTD = _held(seen, coder.layer, hook_out)
        x_ND = _held(seen, coder.layer, hook_in)[counted_BT].to(coder.W_enc.dtype)
        y_ND = y_BTD[counted_BT]
        y_hat_ND, indices_NK, values_NK = reconstruction.at(coder.layer, x_ND)
        self.active_F += torch.bincount(indices_NK[values_NK > 0], minlength=len(self.active_F))
        of_tokens = {
            "error": (y_ND.double() - y_hat_ND.double()).square().sum(1),
            "variance": (y_ND.double() - self.mean_D).square().sum(1),
            "l0": (values_NK > 0).sum(1),
            "l1": values_NK.double().sum(1),
        }
        self.rows.add(**{name: by_row(each_N, counted_BT) for name, each_N in of_tokens.items()})

        def resid_with(instead_ND: Tensor) -> Tensor:
            instead_BTD = y_BTD.clone()
            instead_BTD[counted_BT] = instead_ND.to(y_BTD.dtype)
            return _resid(model, seen, coder.layer, hook_out, instead_BTD)

        self.rows.add(tokens=counted_BT.sum(1), predictions=own.n_B)
        self.rows.add(ce_original=own.ce_B, **own.compare(resid_with(y_hat_ND)))
        self.rows.add(ce_zero=own.ce(resid_with(torch.zeros_like(y_ND))))
        if self.mean_ablation:
            self.rows.add(ce_mean=own.ce(resid_with(self.mean_D.expand_as(y_ND))))

    def metrics(self, attention: Attention) -> CoderMetrics:
        rows = self.rows
        own = {
            "fvu": ratio(rows["error"], rows["variance"]),
            "l0": ratio(rows["l0"], rows["tokens"]),
            "l1": ratio(rows["l1"], rows["tokens"]),
        }
        fields = _fields(own, rows, attention)
        if fields["fvu"] is None:
            fields["fvu"] = float("nan")
        return CoderMetrics(layer=self.coder.layer, **fields, **firing(self.active_F, fields["tokens"]))


class Together:
    """All coders in the model at once: each reads what the ones below it made."""

    def __init__(self, coders: Mapping[int, Coder], means: Mapping[int, Tensor], *, mean_ablation: bool) -> None:
        self.coders = coders
        self.means = means
        self.mean_ablation = mean_ablation
        self.rows = RowSums()
        self.fvu = {layer: Fvu() for layer in coders}
        self.active = dict.fromkeys(coders, 0)

    def update(self, model: Model, batch: Batch, own: Predictions) -> None:
        counted_BT = batch.counted_BT
        reconstruction = Reconstruction(self.coders)

        def coders(layer: int, x_ND: Tensor, y_ND: Tensor) -> Tensor:
            y_hat_ND, _, values_NK = reconstruction.at(layer, x_ND.to(self.coders[layer].W_enc.dtype))
            self.fvu[layer].update(y_ND, y_hat_ND)
            self.active[layer] += int((values_NK > 0).sum())
            return y_hat_ND

        def zero(_layer: int, _x_ND: Tensor, y_ND: Tensor) -> Tensor:
            return torch.zeros_like(y_ND)

        def means(layer: int, _x_ND: Tensor, y_ND: Tensor) -> Tensor:
            return self.means[layer].expand_as(y_ND)

        def resid_with(write: Write) -> Tensor:
            with replaced(model, {layer: coder.hooks for layer, coder in self.coders.items()}, counted_BT, write):
                return last_resid(model, batch)

        self.rows.add(tokens=counted_BT.sum(1), predictions=own.n_B)
        self.rows.add(ce_original=own.ce_B, **own.compare(resid_with(coders)))
        self.rows.add(ce_zero=own.ce(resid_with(zero)))
        if self.mean_ablation:
            self.rows.add(ce_mean=own.ce(resid_with(means)))

    def metrics(self, attention: Attention) -> AllReplaced:
        fields = _fields({}, self.rows, attention)
        layers = [
            ReplacedLayer(layer=layer, fvu=fvu.value(), l0=self.active[layer] / fields["tokens"])
            for layer, fvu in self.fvu.items()
        ]
        return AllReplaced(layers=layers, **fields)


def _splice(rows: RowSums) -> dict[str, Estimate]:
    """The estimates of `SpliceMetrics`."""
    found = {
        name: ratio(rows[name], rows["predictions"])
        for name in ("ce_original", "ce_spliced", "ce_zero", "ce_mean", "kl", "agreement")
        if name in rows
    }
    for baseline in ("zero", "mean"):
        if f"ce_{baseline}" in rows:
            ablated_N = rows[f"ce_{baseline}"]
            found[f"loss_recovered_{baseline}"] = loss_recovered(rows["ce_original"], rows["ce_spliced"], ablated_N)
    return found


def _fields(own: Mapping[str, Estimate], rows: RowSums, attention: Attention) -> dict[str, Any]:
    """The fields of `SpliceMetrics`, with other estimates that have an interval."""
    estimates = {**own, **_splice(rows)}
    intervals = {name: each.interval for name, each in estimates.items() if each.interval is not None}
    what = {"tokens": int(rows["tokens"].sum()), "attention": attention, "intervals": intervals}
    return what | {name: each.value for name, each in estimates.items()}


def _held(seen: Trace, layer: int, hook: str) -> Tensor:
    """[B, T, D] at one hook."""
    match hook:
        case "mlp.in":
            return seen.mlp_in[layer]
        case "mlp.out":
            return seen.mlp_out[layer]
        case _:
            return seen.resid_mid[layer] + seen.mlp_out[layer]


def _resid(model: Model, seen: Trace, layer: int, hook: str, instead_BTD: Tensor) -> Tensor:
    """The last residual stream [B, T, D] with other activations at one hook."""
    match hook:
        case "mlp.in":
            block = model.anatomy.blocks[layer]
            instead_BTD = written_by(block.mlp(instead_BTD))
            if block.mlp_post_norm is not None:
                instead_BTD = block.mlp_post_norm.module(instead_BTD)
        case "resid":
            instead_BTD = instead_BTD - seen.resid_mid[layer]
    return resid_from(model, seen, layer, instead_BTD)

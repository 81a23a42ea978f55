"""Where training starts: features that already stand for something seen.

A feature begins as one token of the first batches: its encoder is the direction in which that token's MLP input departs
from the mean, its decoder the direction in which the MLP output does. The encoder bias takes the mean off the input,
one scale fitted by least squares makes the first reconstruction sane whatever the layer's units, and `b_dec` is the
mean output.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.coders import Coder
from clew.data import Dataset
from clew.models import Model
from clew.reporting import Report, StopRequested
from clew.training.activations import activations
from clew.training.stream import TokenStream, seeded
from clew_spec.coders import CoderConfig
from clew_spec.training import TrainSpec

MAX_TOKENS = 8192
"""Tokens to draw features from. Features beyond that start as random directions."""


@dataclass(frozen=True)
class Units:
    """Root mean square of an element about its mean. Adam's steps are taken in these units."""

    x: float
    y: float

    def of(self, parameter: str) -> float:
        """The unit of a parameter: with x and y measured in units, pre-activations have none."""
        return {"W_enc": 1 / self.x, "b_enc": 1.0, "W_dec": self.y, "b_dec": self.y}[parameter]


def first_coders(
    model: Model,
    stream: TokenStream,
    spec: TrainSpec,
    dataset: Dataset,
    model_digest: str,
    tokenizer_digest: str,
    report: Report,
) -> tuple[dict[int, Coder], dict[int, Units]]:
    """A coder and the units of each layer, from the batches that the first steps will see."""
    in_batch = stream.rows_per_step * (dataset.manifest.context - 1)
    # One batch more than the features are drawn from, to fit their scale on.
    n_batches = math.ceil(min(spec.coder.n_features, MAX_TOKENS) / in_batch) + 1
    seen: dict[int, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in spec.layers}
    for step in range(n_batches):
        if report.stop_requested():
            raise StopRequested
        report.progress("first look at the activations", step, n_batches, "batches")
        for layer, x_ND, y_ND in activations(model, stream.batch(step), spec.layers):
            seen[layer].append((x_ND, y_ND))
    coders, units = {}, {}
    for layer in spec.layers:
        x_ND, y_ND = (torch.cat(parts) for parts in zip(*seen.pop(layer), strict=True))
        config = CoderConfig(
            kind=spec.coder.kind,
            activation=spec.coder.activation,
            n_features=spec.coder.n_features,
            d_in=x_ND.shape[1],
            d_out=y_ND.shape[1],
            layer=layer,
            dtype=str(x_ND.dtype).removeprefix("torch."),
            model_digest=model_digest,
            tokenizer_digest=tokenizer_digest,
            dataset_digest=dataset.manifest.digest,
            bos=dataset.manifest.bos,
        )
        fit = slice(-in_batch, None)
        coders[layer], units[layer] = first_coder(config, x_ND, y_ND, fit, seeded(spec.seed, f"first/{layer}"))
    return coders, units


def first_coder(
    config: CoderConfig, x_ND: Tensor, y_ND: Tensor, fit: slice, generator: torch.Generator
) -> tuple[Coder, Units]:
    """A coder made from MLP inputs and outputs, and the units of its layer. Tokens of `fit` set the scale alone."""
    device, dtype = x_ND.device, x_ND.dtype
    mean_x_D, mean_y_D = x_ND.mean(0), y_ND.mean(0)
    units = Units(x=_spread(x_ND - mean_x_D), y=_spread(y_ND - mean_y_D))

    candidates = torch.ones(len(x_ND), dtype=torch.bool)
    candidates[fit] = False
    drawn = torch.randperm(int(candidates.sum()), generator=generator)[: config.n_features]
    tokens = candidates.nonzero()[drawn, 0].to(device)
    n_random = config.n_features - len(tokens)

    def directions(seen_ND: Tensor, mean_D: Tensor) -> Tensor:
        random_ND = torch.randn(n_random, len(mean_D), generator=generator, dtype=torch.float64)
        rows_FD = torch.cat([seen_ND[tokens] - mean_D, random_ND.to(device, dtype)])
        norms_F1: Tensor = rows_FD.norm(dim=1, keepdim=True)
        return rows_FD / norms_F1.clamp_min(torch.finfo(dtype).tiny)

    W_enc = directions(x_ND, mean_x_D) / units.x
    W_dec = directions(y_ND, mean_y_D) * units.y
    coder = Coder(config, W_enc, -W_enc @ mean_x_D, W_dec, mean_y_D)
    reading_ND, target_ND = coder.forward(x_ND[fit]) - mean_y_D, y_ND[fit] - mean_y_D
    scale = (reading_ND * target_ND).sum() / reading_ND.square().sum().clamp_min(torch.finfo(dtype).tiny)
    W_dec *= scale
    return coder, units


def _spread(centred_ND: Tensor) -> float:
    return max(float(centred_ND.double().square().mean().sqrt()), 1e-12)

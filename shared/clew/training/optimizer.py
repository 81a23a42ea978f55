"""Adam in the units of each layer's activations, and how its rate moves."""

from collections.abc import Mapping

import torch

from clew.coders import Coder
from clew.training.initial import Units
from clew_spec.training import OptimizerSpec

EPS = 1e-8


def adam(coders: Mapping[int, Coder], units: Mapping[int, Units], spec: OptimizerSpec) -> torch.optim.Adam:
    """Adam over every parameter of every coder.

    Rate and epsilon are measured in the unit of each parameter: scaling a layer's inputs or outputs scales its coder,
    and changes nothing else.
    """
    beta1, beta2 = spec.betas
    groups = [
        {"params": [parameter], "unit": unit, "eps": EPS / unit}
        for layer, coder in coders.items()
        for name, parameter in coder.parameters().items()
        for unit in [units[layer].of(name)]
    ]
    return torch.optim.Adam(groups, betas=(beta1, beta2), fused=True)


def set_rate(optimizer: torch.optim.Adam, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["unit"]


def rate_at(spec: OptimizerSpec, step: int, steps: int) -> float:
    """The learning rate of `step`, from 0, of `steps`: up linearly, flat, down linearly.

    The first step of a warm-up over w takes 1/w of `lr` and the w-th the whole; the last step of a decay over d takes
    1/d, so that no step is wasted at a rate of 0.
    """
    rising = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    decay_steps = spec.decay_fraction * steps
    falling = min(1.0, (steps - step) / decay_steps) if decay_steps >= 1 else 1.0
    return spec.lr * rising * falling

"""Optimisers in the units of each layer's activations, how the rate moves, what holds weights where they belong."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from clew.coders import Coder
from clew.coders.coder import decoder_name
from clew_spec.coders import BatchTopK
from clew_spec.training import OptimizerSpec

EPS = 1e-8
UNDECAYED = ("b_enc", "b_dec", "threshold")


@dataclass(frozen=True)
class Units:
    """Root mean square of an element about its mean. Steps are taken in these units."""

    x: float
    y: float
    z: float = 1.0
    """Of a pre-activation: 1 unless decoder rows are held at norm 1, which leaves the scale of y to it."""
    loss: float = 1.0
    y_later: dict[int, float] = field(default_factory=dict)
    """`y` of the later layers that a cross-layer transcoder's features write to."""

    def of(self, parameter: str) -> float:
        """The unit of a parameter."""
        return {
            "W_enc": self.z / self.x,
            "b_enc": self.z,
            "threshold": self.z,
            "W_dec": self.y / self.z,
            "b_dec": self.y,
            "W_skip": self.y / self.x,
            **{decoder_name(layer): y / self.z for layer, y in self.y_later.items()},
        }[parameter]


def learned(coder: Coder) -> dict[str, Tensor]:
    """The parameters that get gradients. The threshold of BatchTopK is measured instead."""
    measured = ("threshold",) if isinstance(coder.config.activation, BatchTopK) else ()
    return {name: parameter for name, parameter in coder.parameters().items() if name not in measured}


def optimizer_of(coder: Coder, units: Units, spec: OptimizerSpec) -> Optimizer:
    """Over every parameter of a coder that learns.

    Rate and epsilon are measured in the unit of each parameter: scaling a layer's inputs or outputs scales its coder,
    and changes nothing else. Adafactor (Shazeer & Stern 2018) keeps row and column means of squared gradients in place
    of Adam's two moments; its step is never below the rate in the parameter's unit, so one rate serves them all. Its
    other epsilon is absolute: it is to be given gradients in units, as `prepare_gradients` leaves them.
    """
    groups = [
        {
            "params": [parameter],
            "unit": units.of(name),
            "weight_decay": 0.0 if name in UNDECAYED else spec.weight_decay,
        }
        for name, parameter in learned(coder).items()
    ]
    if spec.kind == "adafactor":
        for group in groups:
            group["eps"] = (None, float(group["unit"]))  # type: ignore[arg-type]  # groups hold mixed values
        return torch.optim.Adafactor(groups)
    for group in groups:
        group["eps"] = EPS * units.loss / float(group["unit"])  # type: ignore[arg-type]  # as above
        # Its rate is in the unit (see `set_rate`), and multiplies the decay.
        group["weight_decay"] /= group["unit"]  # type: ignore[operator]  # as above
    beta1, beta2 = spec.betas
    kind = torch.optim.AdamW if spec.kind == "adamw" else torch.optim.Adam
    return kind(groups, betas=(beta1, beta2), fused=True)


def first_memory(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What Adam remembers of a parameter before its first step, which would else allocate it, when memory is fullest.

    Nothing for Adafactor, which remembers little.
    """
    if isinstance(optimizer, torch.optim.Adafactor):
        return {}
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate if isinstance(optimizer, torch.optim.Adafactor) else rate * group["unit"]


def rate_at(spec: OptimizerSpec, step: int, steps: int) -> float:
    """The learning rate of `step`, from 0, of `steps`: up linearly, flat, down as `spec.schedule` says.

    The first step of a warm-up over w takes 1/w of `lr` and the w-th the whole; the last step of a linear decay over d
    takes 1/d, so that no step is wasted at a rate of 0. A cosine is (1 - cos(pi r)) / 2 of what a line r would be.
    """
    rising = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    decay_steps = spec.decay_fraction * steps
    falling = 1.0
    if decay_steps >= 1 and spec.schedule != "constant":
        falling = min(1.0, (steps - step) / decay_steps)
    if spec.schedule == "cosine":
        falling = (1 - math.cos(math.pi * falling)) / 2
    return spec.lr * rising * falling


def prepare_gradients(coder: Coder, gradients: dict[str, Tensor], units: Units, spec: OptimizerSpec) -> None:
    """In place: no gradient along unit-norm decoder rows, and none above the bound on the norm of all.

    Those for Adafactor are left in units.
    """
    if spec.decoder_rows == "unit-norm":
        along_F1 = (gradients["W_dec"] * coder.W_dec).sum(1, keepdim=True)
        gradients["W_dec"] -= along_F1 * coder.W_dec
    if spec.clip_norm is not None:
        squares = [gradient.double().square().sum() * units.of(name) ** 2 for name, gradient in gradients.items()]
        norm = torch.stack(squares).sum().sqrt() / units.loss
        for gradient in gradients.values():
            gradient *= (spec.clip_norm / norm).clamp(max=1).to(gradient.dtype)
    if spec.kind == "adafactor":
        for name, gradient in gradients.items():
            gradient *= units.of(name) / units.loss


@torch.no_grad()
def hold(coder: Coder, spec: OptimizerSpec) -> None:
    """After a step: decoder rows back to norm 1 where asked for, thresholds not below 0."""
    if spec.decoder_rows == "unit-norm":
        coder.W_dec.div_(coder.W_dec.norm(dim=1, keepdim=True).clamp_min(torch.finfo(coder.W_dec.dtype).tiny))
    if coder.threshold is not None:
        coder.threshold.clamp_(min=0)

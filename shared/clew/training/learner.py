"""Coders that learn together, and how: from a batch to a step of their optimisers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.coders import Coder
from clew.training.activations import Route, route
from clew.training.checkpoint import Memory
from clew.training.gradients import JointLoss, Step
from clew.training.losses import sparsity_weight
from clew.training.optimizer import Units, first_memory, hold, learned, optimizer_of, prepare_gradients, set_rate
from clew.training.watch import calibrate, count_silence
from clew_spec.losses import LossSpec
from clew_spec.training import OptimizerSpec


@dataclass(frozen=True)
class Told:
    """What a step tells of one coder: scalars."""

    terms: dict[str, Tensor]
    fvu: Tensor
    l0: Tensor


class Learner:
    """One per-layer coder, or all of a cross-layer transcoder, by key.

    Each step is `begin`, then `at` for each of its routes from below; with the last of them the coders learn. A step
    that was begun and not finished has changed nothing, unless `half_learnt`: then it can be neither kept nor repeated.
    """

    def __init__(
        self,
        coders: Mapping[str, Coder],
        units: Mapping[str, Units],
        spec: OptimizerSpec,
        *,
        low_precision: bool,
        silence: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, Memory] | None = None,
    ) -> None:
        self.coders = coders
        self.loss = next(iter(coders.values())).config.loss or LossSpec()
        self.routes: dict[Route, str] = {route(coder.layer, coder.hooks): key for key, coder in coders.items()}
        self.silence: dict[str, Tensor] = {}
        if self.loss.auxk:
            told = silence or {}
            self.silence = {key: told[key] if key in told else _no_silence(coder) for key, coder in coders.items()}
        self._units, self._spec, self._low_precision = units, spec, low_precision
        self._optimizers = {key: optimizer_of(coder, units[key], spec) for key, coder in coders.items()}
        for key, optimizer in self._optimizers.items():
            of_coder = memory[key] if memory else {}
            for name, parameter in learned(coders[key]).items():
                if remembered := of_coder.get(name) or first_memory(optimizer, parameter):
                    optimizer.state[parameter] = dict(remembered)
        self.half_learnt = False
        self.begin(0)

    def begin(self, step: int, *, rate: float = 0.0, shrink: int = 1) -> None:
        self._step, self._rate = step, rate
        dead = {}
        if self.loss.auxk:
            dead = {self.coders[key].layer: s >= self.loss.auxk.dead_after_tokens for key, s in self.silence.items()}
        self._joint = JointLoss(
            {coder.layer: coder for coder in self.coders.values()},
            self.loss,
            weight=sparsity_weight(self.loss, step),
            dead=dead,
            low_precision=self._low_precision,
            shrink=shrink,
        )

    def at(self, each: Route, x_ND: Tensor, y_ND: Tensor) -> dict[str, Told]:
        """What there is to tell by key, when this route was the last one; else nothing."""
        self._joint.at(self.coders[self.routes[each]].layer, x_ND, y_ND)
        if not self._joint.complete:
            return {}
        steps = self._joint.steps()
        told = {key: self._learn(key, coder, steps.pop(coder.layer)) for key, coder in self.coders.items()}
        self.half_learnt = False
        return told

    def _learn(self, key: str, coder: Coder, found: Step) -> Told:
        prepare_gradients(coder, found.gradients, self._units[key], self._spec)
        parameters, optimizer = learned(coder), self._optimizers[key]
        for name, parameter in parameters.items():
            parameter.grad = found.gradients.pop(name)
        set_rate(optimizer, self._rate)
        self.half_learnt = True
        optimizer.step()
        for parameter in parameters.values():
            parameter.grad = None
        hold(coder, self._spec)
        calibrate(coder, found.values_NK, step=self._step + 1)
        if key in self.silence:
            count_silence(self.silence[key], found.indices_NK, found.values_NK)
        return Told(found.terms, found.fvu, found.l0)

    def memory(self) -> dict[str, Memory]:
        """What the optimisers remember, by key of coder and name of parameter."""
        return {
            key: {
                name: dict(optimizer.state[parameter])
                for name, parameter in learned(self.coders[key]).items()
                if parameter in optimizer.state
            }
            for key, optimizer in self._optimizers.items()
        }


def _no_silence(coder: Coder) -> Tensor:
    return torch.zeros(coder.config.n_features, dtype=torch.int64, device=coder.b_enc.device)

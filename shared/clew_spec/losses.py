"""What a coder is trained to make small, by name."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clew_spec.base import Spec

Fidelity = Literal["fvu", "mse", "norm-scaled"]
Sparsity = Literal["none", "l1", "l1-decoder-norm", "l0"]


class AuxK(Spec):
    """Features that no token wakes also learn: their k largest rectified pre-activations reconstruct the residual
    `y - y_hat` (Gao et al. 2024), its part in the loss being `weight` times the fidelity of that."""

    k: int = Field(default=256, ge=1)
    """Most dead features that speak for one token."""
    weight: float = Field(default=1 / 32, gt=0, le=100)
    dead_after_tokens: int = Field(default=1_000_000, ge=1)
    """A feature is dead once so many tokens have passed without it."""


class LossSpec(Spec):
    """`fidelity + sparsity_weight * sparsity + auxk`, of a batch of N tokens."""

    fidelity: Fidelity = "fvu"
    """`fvu`: sum |y - y_hat|^2 / sum |y - y_bar|^2 of the batch. `mse`: |y - y_hat|^2, mean over tokens (the paper,
    arXiv 2406.11944). `norm-scaled`: (y - y_hat)^2 / |y|, mean over tokens and dimensions (the paper's code)."""
    sparsity: Sparsity = "none"
    """Mean over tokens of: `l1`: sum z; of use with unit-norm decoder rows, else z shrinks while they grow.
    `l1-decoder-norm`: sum z |w_dec|, which no rescaling escapes. `l0`: features with z > 0, for JumpReLU."""
    sparsity_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """lambda"""
    sparsity_warmup_steps: int = Field(default=0, ge=0)
    """lambda rises linearly from 0 over so many optimiser steps."""
    auxk: AuxK | None = None

    @model_validator(mode="after")
    def _weight_has_a_term(self) -> Self:
        if self.sparsity == "none" and (self.sparsity_weight or self.sparsity_warmup_steps):
            raise ValueError("a sparsity weight or warm-up needs `sparsity` to be l1, l1-decoder-norm or l0")
        return self

"""Train coders on one activation stream."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from clew_spec.base import Name, Ref, Seed, Spec
from clew_spec.coders import CoderSpec


class OptimizerSpec(Spec):
    kind: Literal["adam", "adamw", "adafactor"] = "adam"
    """`adafactor` needs about half of Adam's memory: it keeps no moments, only row and column means of squares."""
    lr: float = Field(default=4e-3, gt=0, le=1)
    """In units of each layer's activations: one rate serves layers whose inputs and outputs differ in scale."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the rate falls to 0 over the last `decay_fraction` of the steps; `constant`: it does not."""
    warmup_steps: int = Field(default=10, ge=0)
    """Linear from 0; counted in optimiser steps."""
    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, over which the rate falls to 0; 1 is a whole cosine or a whole line."""
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Of AdamW and Adafactor: each step takes this times the rate off all weights but biases and thresholds."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Bound on the norm of each coder's gradient, in units of its layer."""
    decoder_rows: Literal["free", "unit-norm"] = "free"
    """`unit-norm` keeps every decoder row at norm 1, gradients along the rows removed."""

    @model_validator(mode="after")
    def _adam_does_not_decay(self) -> Self:
        if self.kind == "adam" and self.weight_decay:
            raise ValueError("weight_decay needs kind = adamw or adafactor")
        return self


class CoderVariant(CoderSpec):
    name: Name
    """Its coders are stored and found as `{name of the set}.{name}`."""


class TrainSpec(Spec):
    kind: Literal["train"] = "train"
    name: Name
    """Name of the set of coders, one for each layer."""
    model: Ref
    dataset: Ref
    layers: list[int] = Field(min_length=1)
    coder: CoderSpec = CoderSpec()
    coders: list[CoderVariant] = []
    """Several coders a layer, in place of `coder`; each is the one that it would be alone."""
    optimizer: OptimizerSpec = OptimizerSpec()
    steps: int = Field(ge=1, le=10_000_000)
    tokens_per_step: int = Field(default=1024, ge=16)
    """Rounded down to whole rows of the dataset; what each text begins with is seen by the model, not by the coders."""
    seed: Seed = 0
    log_every: int = Field(default=5, ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    """Held-out FVU is measured at step 0, every so many steps, and at the end."""
    evaluate_tokens: int = Field(default=2048, ge=16)
    checkpoint_every: int = Field(default=50, ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"

    @field_validator("layers")
    @classmethod
    def _distinct(cls, layers: list[int]) -> list[int]:
        if len(set(layers)) != len(layers):
            raise ValueError("layers must be distinct")
        if min(layers) < 0:
            raise ValueError("layers count from 0")
        return sorted(layers)

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        names = [variant.name for variant in self.coders]
        if len(set(names)) != len(names):
            raise ValueError("the names of coders must be distinct")
        if self.coders and self.coder != CoderSpec():
            raise ValueError("give `coder` or `coders`, not both")
        return self

    @model_validator(mode="after")
    def _rows_of_one_decoder(self) -> Self:
        if self.optimizer.decoder_rows == "unit-norm":
            for _, coder in self.variants:
                if coder.kind == "cross-layer-transcoder":
                    raise ValueError(
                        "optimizer.decoder_rows = unit-norm is not for a cross-layer transcoder's decoders"
                    )
        return self

    @property
    def variants(self) -> list[tuple[str | None, CoderSpec]]:
        """What is trained at each layer, by name; `coder` alone has none."""
        return [(variant.name, variant) for variant in self.coders] or [(None, self.coder)]

"""Measure coders on held-out tokens."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Ref, Spec


class EvaluateSpec(Spec):
    kind: Literal["evaluate"] = "evaluate"
    coders: Ref
    """A set of coders by name or by the UUID of its training job, or one coder by UUID."""
    dataset: Ref | None = None
    """Whose held-out split to measure on; the coders' own dataset if not given."""
    tokens: int = Field(default=2048, ge=16)
    """Rounded up to whole rows."""
    rows_per_batch: int = Field(default=4, ge=1)
    """Affects speed and memory only: every metric is invariant to it."""


class CoderMetrics(Spec):
    """One coder on held-out tokens, position 0 left out. CE in nats per token."""

    layer: int
    tokens: int
    fvu: float
    """sum |y - y_hat|^2 / sum |y - y_bar|^2, y_bar the per-dimension mean over all evaluated tokens."""
    l0: float
    """Mean number of features with z > 0 per token."""
    dead: int
    """Features that were active on none of the evaluated tokens."""
    dead_fraction: float
    ce_original: float
    ce_spliced: float
    """The coder's output in place of what its `hook_out` holds (this layer's MLP output) at every position but 0."""
    ce_zero: float
    """Zero in place of the same."""
    loss_recovered: float | None
    """(ce_zero - ce_spliced) / (ce_zero - ce_original); baseline: zero ablation. None where zeroing changes nothing."""

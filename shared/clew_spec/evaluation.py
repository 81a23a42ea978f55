"""Measure coders on held-out tokens."""

from typing import Any, Literal

from pydantic import Field, model_validator

from clew_spec.base import Ref, Spec
from clew_spec.datasets import Attention

DENSE = 0.1
"""A feature active on a larger share of tokens is dense."""
LIVE = 1e-4
"""A feature active on a larger share of tokens is live, as Dunefsky et al. (2024) count them."""


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
    mean_ablation: bool = True
    """Whether to measure the mean in place of each coder's output too: a third more time."""
    replace_all: bool = True
    """Whether to measure all coders of a set in the model at once as well."""


class Interval(Spec):
    """Ends of a 95 % confidence interval."""

    low: float
    high: float


class FrequencyHistogram(Spec):
    """Features by log10 of the share of tokens they were active on. `never` and `counts` sum to their number."""

    never: int
    counts: list[int]
    """Bin i holds `low + i width <= log10 frequency < low + (i + 1) width`; what is rarer is in the first bin, and what
    is active on every token in the last."""
    low: float
    width: float


class SpliceMetrics(Spec):
    """What a splice costs: coders' output in place of what their `hook_out` holds, at positions 1 .. n-1 of each text.

    A text is what tokens attend within, and n its length. Cross-entropy (CE) and KL are in nats per token, over
    positions 1 .. n-2 of all texts.
    """

    tokens: int
    """Positions 1 .. n-1 of all texts."""
    attention: Attention = "row"
    """What the dataset's tokens attend within: a `document`, as far as it is in one row, or a whole `row`."""
    ce_original: float
    ce_spliced: float
    ce_zero: float
    """Zero in place of the same."""
    ce_mean: float | None = None
    """In place of the same its per-dimension mean over the evaluated tokens. None where it was not measured."""
    loss_recovered_zero: float | None
    """(ce_zero - ce_spliced) / (ce_zero - ce_original). None where the ablation changes nothing."""
    loss_recovered_mean: float | None = None
    """(ce_mean - ce_spliced) / (ce_mean - ce_original). None where ce_mean is, or the ablation changes nothing."""
    kl: float | None = None
    """Mean of KL(original || spliced), of the distributions of the next token."""
    agreement: float | None = None
    """Share of positions at which the most likely next token is the same."""
    intervals: dict[str, Interval] = {}
    """95 % confidence intervals by the name of their metric, with rows as what was sampled; of one row there are none.
    Rows that share a document are not quite independent, so intervals are too narrow where documents are long."""

    @model_validator(mode="before")
    @classmethod
    def _read_the_name_of_before(cls, value: Any) -> Any:
        """Metrics were first stored without the baseline in this name."""
        if isinstance(value, dict) and "loss_recovered" in value:
            value = {"loss_recovered_zero" if name == "loss_recovered" else name: each for name, each in value.items()}
        return value


class CoderMetrics(SpliceMetrics):
    """One coder alone in the model, on held-out tokens that are not the first of their text. None: not measured by an
    older version.

    What a cross-layer transcoder writes to a layer comes from the features of all its layers up to that one, on the
    original activations.
    """

    layer: int
    fvu: float
    """sum |y - y_hat|^2 / sum |y - y_bar|^2, y_bar the per-dimension mean over all evaluated tokens."""
    l0: float
    """Mean number of features with z > 0 per token."""
    l1: float | None = None
    """Mean of sum z per token, in the unit of the coder's own activations: longer decoder rows make it smaller."""
    dead: int
    """Features that were active on none of the evaluated tokens."""
    dead_fraction: float
    dense: int | None = None
    """Features that were active on more than a tenth of the evaluated tokens."""
    live: int | None = None
    """Features that were active on more than 1e-4 of the evaluated tokens. Of 10,000 tokens or fewer that says no more
    than `dead` does."""
    frequencies: FrequencyHistogram | None = None


class ReplacedLayer(Spec):
    """One coder inside the model in which all coders are replaced: on what that model's layer reads and would write."""

    layer: int
    fvu: float
    l0: float


class AllReplaced(SpliceMetrics):
    """All coders of a set in the model at once. Features are computed inside the replaced model; zero and mean ablation
    are of all the same layers at once, by the means of the original model."""

    layers: list[ReplacedLayer]

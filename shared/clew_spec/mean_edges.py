"""What a feature is made of on data: the edges into it, averaged over the tokens on which it is active."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Ref, Spec
from clew_spec.graph import NodeType


class MeanEdgesSpec(Spec):
    kind: Literal["mean-edges"] = "mean-edges"
    coders: Ref
    """A set of coders by name or by the UUID of its training job."""
    layer: int = Field(ge=0)
    feature: int = Field(ge=0)
    dataset: Ref | None = None
    """Whose held-out split to read; the coders' own dataset if not given."""
    tokens: int = Field(default=8192, ge=16)
    """Read at most, rounded up to whole rows, spread evenly over the split."""
    firings: int = Field(default=256, ge=1, le=100_000)
    """Tokens at which the feature is active, after which no further row is read."""
    capped: bool = False
    """Whether an edge counts at most as much as the feature is active: what would be lost without that source alone."""
    top: int = Field(default=50, ge=1, le=1000)
    """Sources and tokens told, by |mean|."""


class MeanSource(Spec):
    """A feature, at whatever positions, as a source."""

    layer: int
    feature: int
    mean: float
    """Sum of its edges into the feature, averaged over all firings, 0 where it is silent."""
    direct: float
    """Of that, uncapped, what the residual stream carries at the firing's own position, no head and no skip path: the
    mean of activation and norm scale, times what the weights connect."""
    share: float
    """Of firings to which it contributes."""


class MeanToken(Spec):
    token: str
    token_id: int
    mean: float
    """Sum of the edges from its embeddings, averaged over all firings."""


class MeanPart(Spec):
    """All sources of one type and layer together."""

    type: NodeType
    layer: int
    mean: float


class MeanEdges(Spec):
    layer: int
    feature: int
    tokens: int
    """Read, but for those that texts begin with."""
    firings: int
    mean_activation: float
    """Over the firings."""
    mean_value: float
    """Over the firings: `x . w_enc`, what the edges add up to, uncapped."""
    capped: bool
    sources: list[MeanSource]
    token_sources: list[MeanToken]
    parts: list[MeanPart]
    """Without a cap they add up to `mean_value`."""


class MeanEdgesDocument(MeanEdges):
    """`mean-edges.json`: with as many sources and tokens as were asked for."""

    format: Literal["clew-mean-edges/1"] = "clew-mean-edges/1"

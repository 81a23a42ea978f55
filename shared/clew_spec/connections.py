"""What the weights alone say of one feature: who writes what it reads and who reads what it writes, through what heads.

A weight is what the source, at activation 1 (a token: its embedding), adds to what the target reads, norm gains folded
in; norm scales and attention patterns depend on a prompt and are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from clew_spec.base import Ref, Spec
from clew_spec.errors import InvalidSpec

HeadName = Annotated[str, StringConstraints(pattern=r"^L[0-9]{1,4}H[0-9]{1,4}$"), Field(description="such as `L5H3`")]
Side = Literal["upstream", "downstream"]


class ConnectionsSpec(Spec):
    kind: Literal["connections"] = "connections"
    coders: Ref
    """A set of transcoders by name or by the UUID of its training job."""
    layer: int = Field(ge=0)
    feature: int = Field(ge=0)
    upstream: int = Field(default=20, ge=0, le=1000)
    """Features of each layer below to tell: those it reads most, by absolute weight."""
    downstream: int = Field(default=20, ge=0, le=1000)
    """Features of each layer above to tell: those that read it most."""
    heads: list[HeadName] | None = Field(default=None, max_length=100)
    """Heads through which features and tokens are told as well; left out, the strongest ones."""
    strongest_heads: int = Field(default=5, ge=0, le=100)
    """Without `heads`: how many on each side, by the norm of what passes."""
    tokens: int = Field(default=20, ge=0, le=1000)
    """To tell at each end: read most and least, promoted and suppressed most."""

    @field_validator("heads")
    @classmethod
    def _distinct(cls, heads: list[str] | None) -> list[str] | None:
        if heads is not None and len({head_of(name) for name in heads}) < len(heads):
            raise ValueError("heads must be distinct")
        return heads


class FeatureWeight(Spec):
    layer: int
    feature: int
    weight: float


class TokenWeight(Spec):
    token_id: int
    token: str
    weight: float


class Tokens(Spec):
    """Both ends of the vocabulary."""

    highest: list[TokenWeight]
    lowest: list[TokenWeight]


class HeadWeight(Spec):
    layer: int
    head: int
    side: Side
    """`upstream`: the feature reads through it; `downstream`: what the feature writes passes through it."""
    norm: float
    """Of the feature's reading vector, or of what it writes, taken through the head's W_O W_V."""
    share: float
    """Of the most that a matrix of this Frobenius norm could pass: between 0 and 1."""


class ThroughHead(HeadWeight):
    features: list[FeatureWeight]
    """By layer; of each the strongest."""
    tokens: Tokens
    """Upstream those whose embeddings are read through the head; downstream those it promotes and suppresses."""


class ConnectionsSummary(Spec):
    layer: int
    feature: int
    upstream: list[FeatureWeight]
    """Directly, through the residual stream."""
    downstream: list[FeatureWeight]
    heads: list[HeadWeight]
    """By norm, the strongest of each side first."""
    reads: Tokens
    """De-embedding: tokens whose embeddings the feature reads most and least."""
    promotes: Tokens
    """Direct effect on the logits less their mean, up to the final norm's scale."""


class ConnectionsDocument(ConnectionsSummary):
    """`connections.json`: features by layer and then by absolute weight, and all heads."""

    format: Literal["clew-connections/1"] = "clew-connections/1"
    through: list[ThroughHead]
    """The heads that were named, or the strongest ones."""
    ov_norms: list[list[float]]
    """[L, H]: Frobenius norm of each head's W_O W_V."""
    carried: list[list[float | None]]
    """[L, H]: the OV norm map of the feature: `HeadWeight.norm` of each head; null where neither side passes."""

    def rows(self) -> list[dict[str, Any]]:
        """One for each feature and token: `side`, `through` (None: directly), `layer`, `feature`, `token`, `weight`."""
        rows = [
            *_rows("upstream", None, self.upstream, self.reads),
            *_rows("downstream", None, self.downstream, self.promotes),
        ]
        for head in self.through:
            rows += _rows(head.side, head_name(head.layer, head.head), head.features, head.tokens)
        return rows


def head_of(name: str) -> tuple[int, int]:
    """(layer, head) of a `HeadName`."""
    layer, head = name[1:].split("H")
    return int(layer), int(head)


def head_name(layer: int, head: int) -> str:
    """The inverse of `head_of`."""
    return f"L{layer}H{head}"


def named_heads(names: Sequence[str] | None, n_layers: int, n_heads: int) -> list[tuple[int, int]] | None:
    """(layer, head) of each. Raises InvalidSpec for one that the model does not have."""
    if names is None:
        return None
    return [require_head(name, n_layers, n_heads, f"/spec/heads/{index}") for index, name in enumerate(names)]


def require_head(name: str, n_layers: int, n_heads: int, where: str) -> tuple[int, int]:
    """Layer and head. Raises InvalidSpec for one that the model does not have."""
    layer, head = head_of(name)
    if layer >= n_layers or head >= n_heads:
        raise InvalidSpec(
            f"the model has no head {name}",
            where=where,
            expected=f"L0 to L{n_layers - 1}, H0 to H{n_heads - 1}",
        )
    return layer, head


def _rows(
    side: Side, through: str | None, features: Sequence[FeatureWeight], tokens: Tokens
) -> Iterator[dict[str, Any]]:
    route = {"side": side, "through": through}
    for each in features:
        yield {**route, "layer": each.layer, "feature": each.feature, "token": None, "weight": each.weight}
    for token in [*tokens.highest, *tokens.lowest]:
        yield {**route, "layer": None, "feature": None, "token": token.token, "weight": token.weight}

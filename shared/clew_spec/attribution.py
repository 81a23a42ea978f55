"""Attribute a prompt's logits to features through the frozen network."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clew_spec.base import Name, Ref, Spec
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Position0

Text = Annotated[str, Field(min_length=1, max_length=200)]


class AttributeSpec(Spec):
    kind: Literal["attribute"] = "attribute"
    name: Name
    coders: Ref
    """A set of coders by name or by the UUID of its training job."""
    layers_without_coder: Literal["error", "refused"] = "error"
    """What their MLPs write is error, as the graph's `coder_layers` and scores tell; or such a set is refused."""
    prompt: str = Field(min_length=1, max_length=20_000)
    bos: str | None = Field(default=None, min_length=1, max_length=64)
    """`none`, `bos` or a token's text; must equal what the coders were trained with, which is the default."""
    position_0: Position0 = "error"
    """What the MLPs write at position 0 is: one error node a layer; what it is elsewhere; or left out of all edges."""
    targets: list[Text] | None = Field(default=None, min_length=1, max_length=100)
    """Tokens whose logits are explained, in place of the most likely ones: each exactly one token, written as it would
    follow the prompt, so mostly with a space before it."""
    minus: Text | None = None
    """A token: the differences of the `targets`' logits to its logit are explained, not to the vocabulary's mean."""
    max_logits: int = Field(default=10, ge=1, le=100)
    desired_logit_prob: float = Field(default=0.95, gt=0, le=1)
    """Without `targets`, they are the fewest most likely next tokens that reach this, at most `max_logits`."""
    max_nodes: int = Field(default=2000, ge=1, le=100_000)
    """Feature nodes whose incoming edges are computed, chosen by influence on the logits."""
    targets_per_sweep: int = Field(default=512, ge=1, le=4096)
    """Affects speed, memory and the granularity of the choice of nodes."""
    view_nodes: int = Field(default=300, ge=1, le=5000)
    """Nodes in the pruned picture of the graph, chosen by influence."""

    @model_validator(mode="after")
    def _minus_needs_targets(self) -> Self:
        if self.minus is not None and self.targets is None:
            raise ValueError("minus is subtracted from targets, and there are none")
        return self


MAX_PROMPT_TOKENS = 1024
"""Longest prompt an attribution accepts; a shorter model context lowers it."""


def token_ids(
    spec: AttributeSpec, encode: Callable[[str], Sequence[int]], decode: Callable[[list[int]], str]
) -> tuple[list[int], int | None] | None:
    """The ids of `targets` and of `minus`; None without targets. Raises InvalidSpec for what is not one token."""
    if spec.targets is None:
        return None
    ids = [one_token(text, encode(text), decode, f"/spec/targets/{i}") for i, text in enumerate(spec.targets)]
    return ids, None if spec.minus is None else one_token(spec.minus, encode(spec.minus), decode, "/spec/minus")


def one_token(text: str, ids: Sequence[int], decode: Callable[[list[int]], str], where: str) -> int:
    """Names the pieces of a text of several tokens, of none, or of a token that is not the text (an unknown one)."""
    pieces = [decode([token]) for token in ids]
    if len(pieces) != 1 or pieces[0].strip() != text.strip():
        raise InvalidSpec(
            f"{text!r} is not one token of this tokenizer but {pieces}",
            where=where,
            expected="exactly one token",
            hint="a word in a sentence mostly has its space before it; of a longer text give the first piece",
        )
    return ids[0]


def require_every_layer(spec: AttributeSpec, layers: Iterable[int], n_layers: int) -> None:
    """Raises InvalidSpec where the spec refuses layers without a coder and there are some."""
    missing = sorted({*range(n_layers)} - {*layers})
    if missing and spec.layers_without_coder == "refused":
        raise InvalidSpec(
            f"no coder is given for the layers {missing}",
            where="/spec/coders",
            expected=f"coders of all {n_layers} layers",
            hint="or take their MLPs as error: layers_without_coder = error",
        )

"""Change features on a prompt, and see what the model makes of it."""

from typing import Literal

from pydantic import Field, model_validator

from clew_spec.base import Ref, Spec
from clew_spec.graph import NodeType

Operation = Literal["set", "scale", "ablate", "add"]


class FeatureEdit(Spec):
    """One feature at the positions `start` to `stop` - 1. Position 0 has features in a graph that says so, only."""

    layer: int = Field(ge=0)
    feature: int = Field(ge=0)
    start: int = Field(default=1, ge=0)
    stop: int | None = Field(default=None, ge=1)
    """Null: to the end, and on through generated tokens."""
    operation: Operation
    """`set`: the activation becomes `value`; `scale`: it is multiplied by it; `add`: it grows by it; `ablate`: 0."""
    value: float | None = Field(default=None, allow_inf_nan=False)
    """None with `ablate`."""

    @model_validator(mode="after")
    def _consistent(self) -> "FeatureEdit":
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop = {self.stop} is not after start = {self.start}")
        if (self.value is None) != (self.operation == "ablate"):
            raise ValueError(f"`{self.operation}` takes {'no' if self.operation == 'ablate' else 'a'} value")
        return self


class SteerSpec(Spec):
    kind: Literal["steer"] = "steer"
    coders: Ref | None = None
    """A set of coders by name or by the UUID of its training job; left out where a graph is given."""
    prompt: str | None = Field(default=None, min_length=1, max_length=20_000)
    graph: Ref | None = None
    """A stored graph, in place of coders and prompt: what it predicts is held against what is measured."""
    edits: list[FeatureEdit] = Field(min_length=1, max_length=1000)
    """Applied in order; several of one feature act on what those before made of it."""
    frozen: bool = False
    """Hold attention patterns, norm scales and MLP outputs as the prompt made them, so that only direct edges act."""
    tokens: int = Field(default=0, ge=0, le=512)
    """To generate, the most likely one each time, without and with the edits."""
    top: int = Field(default=10, ge=1, le=100)
    """Most likely next tokens to tell."""

    @model_validator(mode="after")
    def _consistent(self) -> "SteerSpec":
        if self.graph is None and (self.coders is None or self.prompt is None):
            raise ValueError("give coders and a prompt, or a graph")
        if self.graph is not None and (self.coders is not None or self.prompt is not None):
            raise ValueError("a graph has its own coders and prompt: give it alone")
        if self.frozen and self.tokens:
            raise ValueError("nothing can be generated while frozen: what the prompt made ends with it")
        return self


class NextToken(Spec):
    token: str
    token_id: int
    before: float
    """Its probability as the next token without the edits."""
    after: float


class EditedActivation(Spec):
    """Of an edited feature at one position of the prompt."""

    layer: int
    feature: int
    position: int
    before: float
    """Activation on the prompt as it is."""
    after: float
    """Activation that is written under all edits; free, edits below may have changed what there was to edit."""


class Movement(Spec):
    """Of a logit or a feature of the graph: how far its edges say that it moves, and how far it did."""

    node: int
    type: NodeType
    layer: int
    position: int
    feature: int | None
    token_id: int | None
    predicted: float
    measured: float


class Agreement(Spec):
    """Between predicted and measured movements. Null where there are fewer than two, or they do not vary."""

    targets: int
    """That are predicted to move, by more than a millionth of what moves farthest."""
    pearson: float | None
    spearman: float | None
    same_sign: float | None
    """Share of them that moved in the predicted direction."""


class Prediction(Spec):
    agreement: Agreement
    logits: Agreement
    """Of the logits alone."""
    movements: list[Movement]
    """Those predicted or measured to move farthest: all logits, and the first features."""

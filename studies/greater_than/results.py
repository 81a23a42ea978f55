"""What the study measures, as it is kept between runs and told on the page."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from studies.greater_than.training import TrainedSet

R = TypeVar("R", bound=BaseModel)


class Mean(BaseModel):
    """Over contexts or draws, with the sample standard deviation."""

    mean: float
    deviation: float


class Outcome(BaseModel):
    """Means over prompts with digits on both sides of the start decade."""

    decade_effect: float
    """Nats."""
    probability_difference: float


class Behaviour(BaseModel):
    """What the model does with a set of prompts."""

    prompts: int
    contexts: int
    probabilities: list[list[float]]
    """[10, 10], by start decade and next digit."""
    digits: float
    """Probability of all ten."""
    probability_difference: Mean
    """Over contexts."""
    below: float
    """Probability of all digits below the start decade, of prompts that have some."""
    own: float
    """Of the start decade itself."""
    logit_difference: Mean
    decade_effect: float


class Places(BaseModel):
    """By layer: what is left of the decade effect with a component levelled, and what each writes on it directly."""

    without_attention: list[float]
    without_mlp: list[float]
    direct_mlp: list[float]
    heads: list[tuple[int, int, float, float]]
    """Layer, head, what is left without it, its attention to the start's tens digit; least left first."""


class HeadTrial(BaseModel):
    """The head that counts most, levelled on prompts that had no part in finding it."""

    layer: int
    head: int
    outcome: Outcome
    controls: list[Outcome]
    """Other heads of the layers that the last position reads the decade in, one at a time."""


class Feature(BaseModel):
    layer: int
    feature: int
    effect: float
    """Direct, on the mean decade effect."""
    activations: list[float]
    """Mean at the last position by start decade."""
    logits: list[float]
    """Direct effect of activation 1 on the logit of each digit, less their mean, at the mean scale of the last norm."""
    frequency: float
    """Share of the tokens of held-out text on which it is active."""
    brought: dict[str, float]
    """What brings it the start decade: shares of heads `L20.H8` and MLPs `L20.MLP`, largest first."""


class Coded(BaseModel):
    """One layer's coder, on what depends on the start decade at the last position."""

    layer: int
    fvu: float
    of_mlp: float
    """Direct effect of the MLP."""
    of_features: float
    """Of it, by all features; the error writes the rest."""
    of_found: float


class Trial(BaseModel):
    """So many features levelled, and controls of the same norm."""

    n: int
    found: Outcome
    other_features: list[Outcome]
    directions: list[Outcome]


class Transplant(BaseModel):
    """Share of the way to the digits' probabilities of another start decade."""

    found: float
    other_features: list[float]


class GraphError(BaseModel):
    """Of attribution graphs of the logit difference, mean over prompts."""

    prompts: int
    conservation: float
    """Largest, over all."""
    error_share: float
    no_coder: float
    coder_error: float
    position_0: float
    direct: dict[str, float]
    """Sum of the edges into the logit difference by what they come from; with `value`, which they add up to."""


class Circuit(BaseModel):
    """What one set of coders says."""

    seed: int
    features: list[Feature]
    coded: list[Coded]
    trials: list[Trial]
    all_features: Outcome
    transplant: Transplant
    graphs: GraphError
    seconds: float


class OfModel(BaseModel):
    """What needs no coder."""

    finding: Behaviour
    confirming: Behaviour
    places: Places
    head: HeadTrial
    without_coded_mlps: Outcome
    """On the confirming prompts, with all that the MLPs of the coders' layers say of the decade taken out."""
    seconds: float


class Results(BaseModel):
    model: OfModel
    sets: list[TrainedSet]
    circuits: list[Circuit]
    agreement: list[int]
    """Of the features found with the first seed, how many have one of a like decoder among those of each other."""

    @property
    def seconds(self) -> float:
        parts: list[TrainedSet | Circuit] = [*self.sets, *self.circuits]
        return self.model.seconds + sum(each.seconds for each in parts)


def kept(file: Path, kind: type[R], make: Callable[[], R]) -> R:
    """What `file` holds, or what `make` makes, which is then kept there."""
    if not file.exists():
        found = make()
        fresh = file.with_suffix(".new")
        fresh.write_text(found.model_dump_json(indent=1))
        fresh.replace(file)
    return kind.model_validate_json(file.read_text())

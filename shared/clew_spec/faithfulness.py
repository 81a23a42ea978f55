"""Try out whether the model does what a stored graph says."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from clew_spec.base import Ref, Seed, Spec
from clew_spec.graph import Conservation
from clew_spec.steering import Agreement

Ablation = Literal["zero", "mean"]
FRACTIONS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the graph's features at which curves are measured: those of the Mechanistic Interpretability Benchmark, and 0."""


class FaithfulnessSpec(Spec):
    kind: Literal["faithfulness"] = "faithfulness"
    graph: Ref
    nodes: int = Field(default=30, ge=2, le=1000)
    """Features that are tried out one by one, drawn evenly over the ranking by influence."""
    edges: int = Field(default=50, ge=1, le=5000)
    """Edges that are measured under the freeze."""
    ablation: Ablation = "zero"
    """What stands in for a feature that is taken out of the curves: nothing, or its mean over the prompt's positions
    but the first."""
    paraphrases: list[Annotated[str, StringConstraints(min_length=1, max_length=20_000)]] = Field(
        default=[], max_length=20
    )
    """Prompts that should need the same circuit: none, or at least three."""
    top: int = Field(default=50, ge=1, le=1000)
    """Most influential features that are compared between paraphrases."""
    seed: Seed = 0

    @field_validator("paraphrases")
    @classmethod
    def _enough(cls, paraphrases: list[str]) -> list[str]:
        if 0 < len(paraphrases) < 3:
            raise ValueError("a spread needs at least 3 paraphrases, or none")
        return paraphrases


class EdgeChecks(Spec):
    """Edges against the model under the freeze, in float64: |measured - edge| / |edge|."""

    edges: int
    median: float
    largest: float


class Steering(Spec):
    """Each feature is ablated in the free model, and every logit and feature of the graph is predicted by its edges."""

    features: int
    logits: Agreement
    """Over the logits, of all ablations together."""
    nodes: Agreement
    """Over features and logits, of all ablations together."""
    control_logits: Agreement
    """The same predictions, where a random direction of the same norm is taken out in place of the feature's."""
    control_nodes: Agreement


class InfluenceCheck(Spec):
    features: int
    spearman: float | None
    """Between a feature's influence in the graph and the sum of |change of logit|, weighted by the targets'
    probabilities, when it is ablated in the free model."""


class CurvePoint(Spec):
    fraction: float
    """Of the graph's features, by influence."""
    features: int
    keep: float
    """With every feature of the graph ablated but these: of all of them `whole`."""
    ablate: float
    """With these ablated: of all of them `empty`."""


class Curves(Spec):
    """Of the target logits less their mean over the vocabulary, averaged by the targets' probabilities.

    A feature is ablated where it is a node of the graph, at the position of that node. Errors, biases, features where
    they are silent on the prompt and whatever has no feature stay as the model computes them.
    """

    ablation: Ablation
    whole: float
    """In the model as it is."""
    empty: float
    """With every feature of the graph ablated."""
    points: list[CurvePoint]
    cpr: float | None
    """Area under (keep - empty) / (whole - empty) over the fraction: how soon the features of most influence do what
    all do. Null where all features together do nothing."""
    cmd: float | None
    """Area of its distance to 1."""


class Stability(Spec):
    """Of the most influential features, at whatever position, over the prompt and its paraphrases."""

    prompts: list[str]
    """The graph's own first."""
    next_tokens: list[str]
    """The one that the model holds most likely after each, whatever targets the graph has."""
    features: int
    """That are compared of each."""
    jaccard: list[float]
    """Of each paraphrase with the graph's prompt: features in both over features in either."""
    mean_jaccard: float
    """Over all pairs of prompts."""


class Faithfulness(Spec):
    conservation: Conservation
    """As the graph stores it."""
    checks: EdgeChecks
    steering: Steering
    influence: InfluenceCheck
    curves: Curves
    stability: Stability | None
    """Null without paraphrases."""
    seed: int

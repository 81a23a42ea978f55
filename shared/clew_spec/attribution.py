"""Attribute a prompt's logits to features through the frozen network."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Name, Ref, Spec


class AttributeSpec(Spec):
    kind: Literal["attribute"] = "attribute"
    name: Name
    coders: Ref
    """A set of coders by name or by the UUID of its training job. Layers without one become error nodes."""
    prompt: str = Field(min_length=1, max_length=20_000)
    bos: str | None = Field(default=None, min_length=1, max_length=64)
    """`none`, `bos` or a token's text; must equal what the coders were trained with, which is the default."""
    max_logits: int = Field(default=10, ge=1, le=100)
    desired_logit_prob: float = Field(default=0.95, gt=0, le=1)
    """Targets are the fewest most likely next tokens that reach this probability, at most `max_logits`."""
    max_nodes: int = Field(default=2000, ge=1, le=100_000)
    """Feature nodes whose incoming edges are computed, chosen by influence on the logits."""
    targets_per_sweep: int = Field(default=512, ge=1, le=4096)
    """Affects speed, memory and the granularity of the choice of nodes."""
    view_nodes: int = Field(default=300, ge=1, le=5000)
    """Nodes in the pruned picture of the graph, chosen by influence."""


MAX_PROMPT_TOKENS = 1024
"""Longest prompt an attribution accepts; a shorter model context lowers it."""

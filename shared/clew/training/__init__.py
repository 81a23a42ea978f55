"""Train coders on a model's activations."""

from clew.training.checkpoint import RunState
from clew.training.trainer import train

__all__ = ["RunState", "train"]

"""How well coders stand in for the layers they were trained on."""

from clew.evaluation.evaluate import evaluate
from clew.evaluation.fvu import Fvu

__all__ = ["Fvu", "evaluate"]

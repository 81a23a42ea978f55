"""How well coders stand in for the layers they were trained on."""

from clew.evaluation.evaluate import Evaluation, evaluate
from clew.evaluation.fvu import Fvu
from clew.evaluation.replacement import replaced

__all__ = ["Evaluation", "Fvu", "evaluate", "replaced"]

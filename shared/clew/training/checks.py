"""What cannot be trained as asked, said before it is tried."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from clew.coders import Coder
from clew.data import Dataset
from clew.models import Model
from clew.training.learner import Told
from clew_spec.errors import InvalidSpec
from clew_spec.training import TrainSpec


def check(model: Model, dataset: Dataset, spec: TrainSpec, tokenizer_digest: str) -> None:
    """Raises InvalidSpec where a layer, the batch or the dataset does not fit the model."""
    if spec.layers[-1] >= model.n_layers:
        raise InvalidSpec(
            f"the model has no layer {spec.layers[-1]}",
            where="/spec/layers",
            expected=f"layers between 0 and {model.n_layers - 1}",
        )
    dataset.check_fits(tokenizer_digest=tokenizer_digest, vocab_size=model.vocab_size, max_context=model.max_context)
    if spec.tokens_per_step < dataset.manifest.context:
        raise InvalidSpec(
            f"tokens_per_step = {spec.tokens_per_step} is less than one row of the dataset",
            where="/spec/tokens_per_step",
            expected=f">= {dataset.manifest.context}",
        )


def check_finite(step: int, values: Mapping[str, float], rows: Sequence[int] = ()) -> None:
    """Raises InvalidSpec where a run has lost its way. `rows` are those of the training split that the step saw."""
    for name, value in values.items():
        if not math.isfinite(value):
            seen = f", which saw the rows {', '.join(map(str, rows))} of the training split" if rows else ""
            raise InvalidSpec(
                f"training diverged: {name} is {value} at step {step}{seen}",
                where="/spec/optimizer/lr",
                hint="lower the learning rate or lengthen the warm-up; the last checkpoint is of before",
            )


def check_losses(step: int, told: Mapping[str, Told], rows: Callable[[], Sequence[int]]) -> None:
    """Raises InvalidSpec where a loss is not finite; its value, and the rows, are asked for only then."""
    losses = {f"{key}/{name}": term for key, of_coder in told.items() for name, term in of_coder.terms.items()}
    if not bool(torch.stack([term.double() for term in losses.values()]).isfinite().all()):
        check_finite(step, {name: float(term) for name, term in losses.items()}, rows())


def check_weights(step: int, coders: Mapping[str, Coder]) -> None:
    """Raises InvalidSpec where a weight of a coder is not finite: a run that went on from it could only fail."""
    for key, coder in coders.items():
        largest = {name: float(parameter.abs().max()) for name, parameter in coder.parameters().items()}
        check_finite(step, {f"{key}/largest |{name}|": value for name, value in largest.items()})

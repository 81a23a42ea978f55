"""Coders of every side, scored by one evaluator on text that none of them has seen."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.subject import CONTEXT, Subject
from clew.coders import Coder
from clew.data import Dataset
from clew.models import load_model
from clew.training.heldout import heldout_fvu
from clew_spec.coders import CoderConfig


def sparsify_coder(folder: Path, config: CoderConfig) -> Coder:
    """The transcoder that sparsify stored in `folder`, at the place and with the activation function of `config`."""
    theirs = load_file(folder / "sae.safetensors")
    return Coder(
        config,
        W_enc=theirs["encoder.weight"],
        b_enc=theirs["encoder.bias"],
        W_dec=theirs["W_dec"],
        b_dec=theirs["b_dec"],
    )


def heldout_fvus(subject: Subject, coders: Mapping[str, Coder]) -> dict[str, float]:
    """FVU of each coder over all held-out rows, positions >= 1."""
    rows = Dataset.open(subject.dataset).heldout
    model = load_model(subject.model, tokenizer=False)
    return heldout_fvu(model, [{key: coder} for key, coder in coders.items()], rows, tokens=len(rows) * CONTEXT)

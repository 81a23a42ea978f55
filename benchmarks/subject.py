"""What all sides are given: a real model and the token ids of real text, made once and kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from demo.model import fetch_model

from clew.data import Dataset, build_dataset
from clew.files import file_sha256
from clew.models import import_model
from clew.models.importing import tokenizer_digest
from clew.models.model import load_tokenizer
from clew.reporting import Silent
from clew.training.stream import TokenStream
from clew_spec.datasets import BuildDatasetSpec

CONTEXT = 256
STEPS = 100
ROWS_PER_STEP = 16
MAX_TOKENS = 450_000
SEED = 0


@dataclass(frozen=True)
class Subject:
    model: Path
    dataset: Path
    tokens: Path
    """`.npy` [STEPS x ROWS_PER_STEP, CONTEXT] int64: the rows of training in the order in which ours sees them."""

    def identity(self) -> dict[str, str]:
        """What our training asks to know of the model."""
        return {
            "model_digest": file_sha256(self.model / "model.safetensors"),
            "tokenizer_digest": tokenizer_digest(self.model),
        }


def prepare(cache: Path) -> Subject:
    """SmolLM2-135M as safetensors and docstrings in rows of 256 tokens, below `cache`; some minutes the first time."""
    subject = Subject(cache / "model", cache / "dataset", cache / "tokens.npy")
    if not subject.model.exists():
        file = fetch_model(cache / "download")
        import_model(file, subject.model, roots=[file.parent], report=Silent())
    if not subject.dataset.exists():
        # The peers let the documents of a row attend to each other, so all sides do.
        spec = BuildDatasetSpec(
            name="pydoc", model="smollm2-135m", context=CONTEXT, max_tokens=MAX_TOKENS, attention="row"
        )
        digest = tokenizer_digest(subject.model)
        build_dataset(spec, load_tokenizer(subject.model), tokenizer_digest=digest, out=subject.dataset)
    stream = TokenStream(Dataset.open(subject.dataset).train, rows_per_step=ROWS_PER_STEP, seed=SEED)
    np.save(subject.tokens, np.concatenate([stream.batch(step).tokens_BT.numpy() for step in range(STEPS)]))
    return subject

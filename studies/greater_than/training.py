"""Transcoders of the layers that the study looks into, one set a seed, and how good they are."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel

from clew.coders import Coder, load_coder
from clew.data import Dataset, Rows
from clew.evaluation import evaluate
from clew.files import file_sha256
from clew.models import Model
from clew.models.importing import tokenizer_digest
from clew.reporting import Report
from clew.training import train
from clew_spec.coders import CoderSpec, TopK
from clew_spec.results import Lineage
from clew_spec.training import TrainSpec
from studies.greater_than.prompts import Prompts

LAYERS = (23, 24, 26, 29)
"""The four MLPs that write most of the decade effect directly."""
N_FEATURES, K = 2304, 32
SEEDS = (0, 1, 2)
STEPS, TOKENS_PER_STEP = 60, 512
EVALUATION_TOKENS = 1024


class Quality(BaseModel):
    """A coder spliced in on held-out text or prompts; of layer None, all of a set at once."""

    text: str
    layer: int | None
    fvu: float | None
    l0: float | None
    dead: int | None
    ce_original: float
    ce_spliced: float
    ce_mean: float


class TrainedSet(BaseModel):
    seconds: float
    quality: list[Quality]


def trained_set(
    model: Model,
    model_folder: Path,
    dataset: Dataset,
    prompts: Prompts,
    *,
    seed: int,
    steps: int,
    out: Path,
    report: Report,
) -> tuple[dict[int, Coder], TrainedSet]:
    """The set of one seed by layer, and how good it is on held-out text and `prompts`; made unless `out` holds it."""
    kept, folders = out / "set.json", {layer: out / "coders" / f"L{layer:02d}" for layer in LAYERS}
    if not kept.exists():
        start = time.monotonic()
        shutil.rmtree(out, ignore_errors=True)
        train(
            model,
            dataset,
            train_spec(seed, steps),
            model_digest=file_sha256(model_folder / "model.safetensors"),
            tokenizer_digest=tokenizer_digest(model_folder),
            lineage=Lineage(code_version="study", seed=seed),
            out=out,
            report=report,
        )
        coders = {layer: load_coder(folder) for layer, folder in folders.items()}
        quality = measure(model, coders, "text", dataset.heldout, EVALUATION_TOKENS)
        quality += measure(model, coders, "prompts", prompt_rows(prompts), EVALUATION_TOKENS)
        found = TrainedSet(seconds=time.monotonic() - start, quality=quality)
        fresh = kept.with_suffix(".new")
        fresh.write_text(found.model_dump_json(indent=1))
        fresh.replace(kept)
    coders = {layer: load_coder(folder) for layer, folder in folders.items()}
    return coders, TrainedSet.model_validate(json.loads(kept.read_text()))


def train_spec(seed: int, steps: int) -> TrainSpec:
    return TrainSpec(
        name="years",
        model="smollm2-135m",
        dataset="years",
        layers=list(LAYERS),
        coder=CoderSpec(n_features=N_FEATURES, activation=TopK(k=K)),
        steps=steps,
        tokens_per_step=TOKENS_PER_STEP,
        evaluate_every=steps,
        checkpoint_every=steps,
        seed=seed,
    )


def measure(model: Model, coders: Mapping[int, Coder], text: str, rows: Rows, tokens: int) -> list[Quality]:
    """Of each coder alone in the model, and of all at once."""
    found = evaluate(model, coders, rows, tokens=tokens, rows_per_batch=16)
    quality = [
        Quality(
            text=text,
            layer=each.layer,
            fvu=each.fvu,
            l0=each.l0,
            dead=each.dead,
            ce_original=each.ce_original,
            ce_spliced=each.ce_spliced,
            ce_mean=each.ce_mean or 0.0,
        )
        for each in found.coders
    ]
    if (all_of := found.all_replaced) is not None:
        quality.append(
            Quality(
                text=text,
                layer=None,
                fvu=None,
                l0=None,
                dead=None,
                ce_original=all_of.ce_original,
                ce_spliced=all_of.ce_spliced,
                ce_mean=all_of.ce_mean or 0.0,
            )
        )
    return quality


def prompt_rows(prompts: Prompts) -> Rows:
    """Prompts as an evaluation reads them: each a row, and a document."""
    tokens_BT = prompts.tokens_BT.int()
    return Rows((tokens_BT,), (torch.zeros_like(tokens_BT, dtype=torch.int16),), "document")

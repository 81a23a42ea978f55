"""Coders from a dataset, one a layer, from one forward stream."""

from clew import training
from clew.data import Dataset
from clew.models import load_model
from clew_spec.results import CodersResult
from clew_spec.training import TrainSpec
from clew_worker.runner.work import Work


def train(work: Work[TrainSpec]) -> CodersResult:
    dataset = Dataset.open(work.inputs / "dataset")
    work.report.progress("load model", 0, 1, "model")
    model = load_model(work.inputs / "model", device=work.job.device, dtype=work.dtype)
    rows_per_step = work.spec.tokens_per_step // dataset.manifest.context
    tokens = work.spec.steps * rows_per_step * dataset.manifest.context
    lineage = work.lineage(seed=work.spec.seed).model_copy(update={"tokens": tokens})
    if work.resume is not None:
        work.report.log(f"continuing from the checkpoint of step {work.job.resume_step}")
    coders = training.train(
        model,
        dataset,
        work.spec,
        model_digest=work.model_record["digest"],
        tokenizer_digest=work.model_record["tokenizer_digest"],
        lineage=lineage,
        out=work.out,
        on_checkpoint=work.report.checkpoint,
        resume=work.resume,
        report=work.report,
    )
    work.report.folder("coders", work.out / "coders")
    return CodersResult(
        name=work.spec.name,
        coders=coders,
        steps=work.spec.steps,
        tokens_seen=tokens,
        lineage=lineage,
    )

"""Coders on held-out tokens."""

from clew import evaluation
from clew.data import Dataset, Rows
from clew.models import Model
from clew_spec.base import Spec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.results import EvaluationResult
from clew_worker.runner.handlers.coders import load_coders
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work


def heldout_rows(work: Work[Spec], model: Model) -> Rows:
    """Of the job's dataset. Raises InvalidSpec where the model cannot read them."""
    dataset = Dataset.open(work.inputs / "dataset")
    dataset.check_fits(
        tokenizer_digest=work.model_record["tokenizer_digest"],
        vocab_size=model.vocab_size,
        max_context=model.max_context,
    )
    return dataset.heldout


def evaluate(work: Work[EvaluateSpec]) -> EvaluationResult:
    model = warm_model(work)
    rows = heldout_rows(work, model)
    coders = load_coders(work)
    found = evaluation.evaluate(
        model,
        coders,
        rows,
        tokens=work.spec.tokens,
        rows_per_batch=work.spec.rows_per_batch,
        mean_ablation=work.spec.mean_ablation,
        replace_all=work.spec.replace_all,
        report=work.report,
    )
    return EvaluationResult(
        coders=found.coders,
        coder_ids=[str(record["id"]) for record in sorted(work.coder_records, key=lambda each: int(each["layer"]))],
        all_replaced=found.all_replaced,
        lineage=work.lineage(),
    )

"""A model folder or GGUF from the worker's disk into the catalogue."""

from pathlib import Path

from clew import models
from clew_spec.models import ImportModelSpec
from clew_spec.results import ModelResult
from clew_worker.runner.work import Work


def import_model(work: Work[ImportModelSpec]) -> ModelResult:
    folder = work.out / "model"
    roots = [Path(root) for root in work.job.import_roots]
    imported = models.import_model(Path(work.spec.path), folder, roots=roots, report=work.report)
    return ModelResult(
        name=work.spec.name,
        digest=imported.digest,
        tokenizer_digest=imported.tokenizer_digest,
        config=imported.config,
        proof=imported.proof,
        files=work.report.folder("model", folder),
        lineage=work.lineage(),
    )

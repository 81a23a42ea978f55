"""A model folder or GGUF from the worker's disk, an upload or the hub into the catalogue."""

from clew import models
from clew.hub import fetch_model
from clew_spec import hub
from clew_spec.models import ImportModelSpec
from clew_spec.results import ModelResult
from clew_worker.runner.work import Work


def import_model(work: Work[ImportModelSpec]) -> ModelResult:
    folder = work.out / "model"
    lineage = work.lineage()
    named = hub.of_path(work.spec.path)
    if named is None:
        path, roots = work.source(work.spec.path)
    else:
        path = work.inputs / "hub"
        path.mkdir(parents=True)
        roots = [path]
        commit, sums = fetch_model(named, path, work.report)
        lineage = lineage.model_copy(update={"source": {"repo": named.repo, "commit": commit, "files": sums}})
    imported = models.import_model(path, folder, roots=roots, report=work.report)
    return ModelResult(
        name=work.spec.name,
        digest=imported.digest,
        tokenizer_digest=imported.tokenizer_digest,
        config=imported.config,
        proof=imported.proof,
        files=work.report.folder("model", folder),
        lineage=lineage,
    )

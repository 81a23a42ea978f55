"""Text into a packed dataset, with the tokenizer of a model."""

from clew import data
from clew.models.model import load_tokenizer
from clew_spec.datasets import BuildDatasetSpec, FileSource
from clew_spec.results import DatasetResult
from clew_worker.runner.work import Work


def build_dataset(work: Work[BuildDatasetSpec]) -> DatasetResult:
    folder = work.out / "dataset"
    tokenizer = load_tokenizer(work.inputs / "model")
    source = work.spec.source
    path, roots = work.source(source.path) if isinstance(source, FileSource) else (None, [])
    manifest = data.build_dataset(
        work.spec,
        tokenizer,
        tokenizer_digest=work.model_record["tokenizer_digest"],
        out=folder,
        import_roots=roots,
        path=path,
        report=work.report,
    )
    return DatasetResult(
        name=work.spec.name,
        digest=manifest.digest,
        tokenizer_digest=manifest.tokenizer_digest,
        context=manifest.context,
        bos=manifest.bos,
        train_tokens=manifest.train_tokens,
        heldout_tokens=manifest.heldout_tokens,
        n_documents=manifest.n_documents,
        source=manifest.source,
        files=work.report.folder("dataset", folder),
        lineage=work.lineage(seed=work.spec.seed),
    )

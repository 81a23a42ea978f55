"""Coders from another project's files on the worker's disk into the catalogue."""

from clew.coders import save_coder
from clew.coders.fitting import fit_to_model
from clew.coders.formats import Given, check_source, detect, files_of, read_coders
from clew.coders.store import CODER_FILES
from clew.data import bos_token_id
from clew.files import file_sha256
from clew.models import load_model
from clew.reporting import StopRequested
from clew_spec.importing import ImportCodersSpec
from clew_spec.results import CodersResult, TrainedCoder
from clew_worker.runner.work import Work


def import_coders(work: Work[ImportCodersSpec]) -> CodersResult:
    spec, report = work.spec, work.report
    path = check_source(*work.source(spec.path))
    format = detect(path) if spec.format == "auto" else spec.format
    report.progress("load model", 0, 1, "model")
    model = load_model(work.inputs / "model")
    assert model.tokenizer is not None
    bos_token_id(model.tokenizer, spec.bos)
    given = Given(
        model_digest=work.model_record["digest"],
        tokenizer_digest=work.model_record["tokenizer_digest"],
        dataset_digest=work.dataset_record["digest"] if spec.dataset is not None else None,
        bos=spec.bos,
        layer=spec.layer,
        hook_in=spec.hook_in,
        hook_out=spec.hook_out,
    )
    coders = fit_to_model(read_coders(path, given, format), model)
    sums = {file.relative_to(path.parent).as_posix(): file_sha256(file) for file in files_of(path, format)}
    lineage = work.lineage().model_copy(update={"source": {"format": format, "files": sums}})
    made = []
    for done, coder in enumerate(coders):
        if report.stop_requested():
            raise StopRequested
        report.progress("store", done, len(coders), "coders")
        key = f"L{coder.layer:02d}"
        made.append(
            TrainedCoder(
                layer=coder.layer,
                digest=save_coder(coder, work.out / "coders" / key, lineage),
                config=coder.config,
                files=[f"coders/{key}/{file}" for file in CODER_FILES],
            )
        )
    report.folder("coders", work.out / "coders")
    return CodersResult(name=spec.name, coders=made, lineage=lineage)

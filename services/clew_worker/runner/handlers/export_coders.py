"""Coders in another project's format, as files to download."""

import json
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clew.coders import Coder
from clew.coders.calibration import calibrate
from clew.coders.formats import write_coders
from clew.data import Dataset, Rows
from clew.models import Model
from clew.reporting import StopRequested
from clew.training.activations import Activations, route
from clew_spec.exporting import ExportCodersSpec
from clew_spec.formats import Calibration, needs_threshold
from clew_spec.results import ExportResult
from clew_worker.runner.handlers.coders import stored_coders
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

ROWS_PER_BATCH = 4


def export_coders(work: Work[ExportCodersSpec]) -> ExportResult:
    spec, lineage = work.spec, work.lineage()
    coders = [coder for _, coder in sorted(stored_coders(work).items())]
    calibration: list[Calibration] = []
    if any(needs_threshold(spec.format, coder.config) for coder in coders):
        coders, calibration = _calibrated(work, coders)
    write_coders(coders, work.out / "export", spec.format, lineage=lineage, model_name=spec.model_name)
    told = {
        "format": spec.format,
        "coders": lineage.coder_digests,
        "calibration": [c.model_dump() for c in calibration],
    }
    (work.out / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    work.report.artifact("report.json", work.out / "report.json")
    return ExportResult(
        name=work.coder_records[0]["name"],
        format=spec.format,
        calibration=calibration,
        files=["report.json", *work.report.folder("export", work.out / "export")],
        lineage=lineage,
    )


def _calibrated(work: Work[ExportCodersSpec], coders: Sequence[Coder]) -> tuple[list[Coder], list[Calibration]]:
    model, dataset = warm_model(work), Dataset.open(work.inputs / "dataset")
    dataset.check_fits(
        tokenizer_digest=work.model_record["tokenizer_digest"],
        vocab_size=model.vocab_size,
        max_context=model.max_context,
    )
    on_device = [coder.to(model.device) for coder in coders]
    seen: dict[int, list[Tensor]] = {coder.layer: [] for coder in coders}
    for batch in _activations(work, model, on_device, dataset.train, "calibrate"):
        for layer, (x_ND, _) in batch.items():
            seen[layer].append(x_ND)
    x = {layer: torch.cat(parts) for layer, parts in seen.items()}
    after, calibration = calibrate(on_device, x, _activations(work, model, on_device, dataset.heldout, "measure"))
    return [coder.to("cpu") for coder in after], calibration


def _activations(
    work: Work[ExportCodersSpec], model: Model, coders: Sequence[Coder], rows: Rows, phase: str
) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """What each coder reads and should write, [N, D] each, of the tokens that count, batch after batch."""
    chosen = rows.spread(work.spec.tokens)
    routes = {route(coder.layer, coder.hooks): coder.layer for coder in coders}
    for start in range(0, len(chosen), ROWS_PER_BATCH):
        if work.report.stop_requested():
            raise StopRequested
        work.report.progress(phase, start, len(chosen), "rows")
        found = Activations(model, rows.batch(chosen[start : start + ROWS_PER_BATCH]), list(routes))
        yield {routes[each]: (x_ND, y_ND) for each, x_ND, y_ND in found}

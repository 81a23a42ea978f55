"""Two prompts, one patched into the other."""

from clew.circuits.patching import patch as patched
from clew_spec.exchange import heatmap
from clew_spec.patching import PatchSpec, answer_ids, strongest
from clew_spec.results import PatchResult
from clew_worker.runner.handlers.prompts import coding, prompt_tokens
from clew_worker.runner.warm import warm_model
from clew_worker.runner.work import Work

FILE, PICTURE = "patch.json", "patch.svg"
TOP = 10
"""Of each kind of place, told in the result."""


def patch(work: Work[PatchSpec]) -> PatchResult:
    spec, model = work.spec, warm_model(work)
    answer, wrong = answer_ids(spec, *coding(model))
    found = patched(
        model,
        prompt_tokens(model, spec.clean, spec.bos, "/spec/clean"),
        prompt_tokens(model, spec.corrupt, spec.bos, "/spec/corrupt"),
        places=spec.places,
        answer=answer,
        wrong=wrong,
        metric=spec.metric,
        direction=spec.direction,
        layers=spec.layers,
        head_positions=spec.head_positions,
        prompts_per_batch=spec.prompts_per_batch,
        prompts=(spec.clean, spec.corrupt),
        bos=spec.bos,
        report=work.report,
    )
    files = [work.file(FILE, found.model_dump_json() + "\n"), work.file(PICTURE, heatmap.svg(found))]
    return PatchResult(summary=found.summary, strongest=strongest(found, TOP), files=files, lineage=work.lineage())

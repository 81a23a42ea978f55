"""What patching one prompt into another takes."""

from clew_spec.estimates.report import Disk, Estimate, Memory, Part
from clew_spec.estimates.sizes import FLOAT32, FLOAT64, RUNTIME_BYTES, forward_bytes, forward_flops, unembedding_flops
from clew_spec.patching import PatchPlace, PatchSpec
from clew_spec.results import ModelConfig

CELL_BYTES = 400
"""Of a place in the two files that are published, its rectangle and title in the picture included."""


def patch(spec: PatchSpec, model: ModelConfig, prompt_tokens: int) -> Estimate:
    """As if the prompts differed from their first token on: what is before their first difference is not run."""
    T, d_model = prompt_tokens, model.d_model
    layers = list(range(model.n_layers)) if spec.layers is None else spec.layers
    passes, flops = 0, 2 * T * forward_flops(model, model.n_layers, T) + 2 * unembedding_flops(model)
    for place in spec.places:
        for layer in [-1, *layers] if place == "resid" and layers[0] == 0 else layers:
            above = model.n_layers - layer - (1 if place == "resid" else 0)
            cells = _cells(spec, place, model, T)
            passes += cells
            flops += cells * (T * forward_flops(model, above, T) + unembedding_flops(model))
    rows = min(spec.prompts_per_batch, max(_cells(spec, place, model, T) for place in spec.places))
    of_prompt = (model.n_layers * (5 * d_model + model.n_heads * T) + d_model) * T * FLOAT32
    logits = rows * model.vocab_size * (2 * FLOAT32 + 4 * FLOAT64)
    patched = 3 * rows * T * d_model * FLOAT32 + 4 * T * d_model * FLOAT32
    where = "/spec/prompts_per_batch"
    parts = [
        Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
        Part(name="model weights", bytes=model.n_parameters * FLOAT32, field="/spec/model"),
        Part(name="both prompts' activations", bytes=2 * of_prompt, field="/spec/clean"),
        Part(name="patched places", bytes=patched, field=where),
        Part(name="a pass", bytes=max(forward_bytes(model, rows, T, FLOAT32), logits), field=where),
    ]
    return Estimate.of(
        memory=Memory(moment="a batch of patches", parts=parts),
        disk=Disk(
            published_bytes=passes * CELL_BYTES,
            checkpoint_bytes=0,
            worker_bytes=model.n_parameters * FLOAT32 + passes * CELL_BYTES,
        ),
        flops=flops,
        tokens=(passes + 2) * T,
    )


def _cells(spec: PatchSpec, place: PatchPlace, model: ModelConfig, prompt_tokens: int) -> int:
    """Patches of one layer."""
    if not place.startswith("head."):
        return prompt_tokens
    return model.n_heads * (prompt_tokens if spec.head_positions else 1)

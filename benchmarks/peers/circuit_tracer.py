"""circuit-tracer's side: one whole attribution graph a step. Run as a child, see `benchmarks.line`.

What was chosen for it: its nnsight back-end, as TransformerLens knows no model of this name; encoders and decoders held
in memory, nothing off-loaded; its default `update_interval`. A step begins with token ids and ends with its `Graph`.
"""

from pathlib import Path

import torch
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.replacement_model.replacement_model_nnsight import NNSightReplacementModel
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
from safetensors.torch import save_file

from benchmarks.line import Line

HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
CPU = torch.device("cpu")


def main() -> None:
    line = Line()
    asked = line.setup()
    folder = Path(asked["coders"])
    paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(len(list(folder.glob("layer_*"))))}
    transcoders = load_transcoder_set(
        paths, scan="timing", device=CPU, dtype=torch.float32, lazy_encoder=False, lazy_decoder=False, **HOOKS
    )
    model = NNSightReplacementModel.from_pretrained_and_transcoders(asked["model"], transcoders, device=CPU)
    tokens = torch.tensor(asked["tokens"])
    assert torch.stack([parameter.sum() for parameter in model.parameters()]).isfinite().all()  # all is in memory
    line.ready()
    going_on = True
    while going_on:
        graph = attribute(
            tokens,
            model,
            max_n_logits=10,
            desired_logit_prob=0.95,
            batch_size=asked["batch_size"],
            max_feature_nodes=asked["max_nodes"],
        )
        going_on = line.stepped()
    found = {
        "adjacency": graph.adjacency_matrix,
        "active": graph.active_features,
        "selected": graph.selected_features,
        "tokens": graph.input_tokens,
        "logit_tokens": graph.logit_token_ids,
    }
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in found.items()}, asked["out"])
    line.finish({"graph": asked["out"]})


if __name__ == "__main__":
    main()

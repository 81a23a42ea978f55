"""Run by circuit-tracer's own Python: `circuit_tracer.py ACTION FOLDER GIVEN ANSWER`."""

import sys
from pathlib import Path
from typing import Any, TypeVar

# This file has the name of the package that it imports, and lies first on the path.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
import yaml  # noqa: E402
from circuit_tracer.transcoder.activation_functions import JumpReLU  # noqa: E402
from circuit_tracer.transcoder.cross_layer_transcoder import (  # noqa: E402
    CrossLayerTranscoder,
    load_clt,
    load_gemma_scope_2_clt,
)
from circuit_tracer.transcoder.single_layer_transcoder import (  # noqa: E402
    SingleLayerTranscoder,
    TranscoderSet,
    load_gemma_scope_2_transcoder,
    load_gemma_scope_transcoder,
)
from circuit_tracer.utils.caching import load_transcoders_from_cache  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

M = TypeVar("M", bound=nn.Module)

D, F, L = 6, 24, 3
CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}


def answer(transcoders: Any, x: Tensor) -> dict[str, Tensor]:
    """Every layer reads the same x."""
    x = torch.stack([x] * L)
    z = transcoders.encode(x)
    return {"z": z, "y": transcoders.decode(z, x)}


def run(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """The set in each folder below, as circuit-tracer reads a local one, whole and lazily."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.iterdir()):
        for lazy in (False, True):
            options = {"lazy_encoder": lazy, "lazy_decoder": lazy} | CPU
            transcoders, _ = load_transcoders_from_cache(path.name, cache_dir=folder, **options)
            found |= {f"{path.name}/{lazy}/{name}": tensor for name, tensor in answer(transcoders, x).items()}
    return found


def random_weights(module: M) -> M:
    for name, parameter in module.named_parameters():
        parameter.data = torch.randn_like(parameter).abs() if "threshold" in name else torch.randn_like(parameter)
    return module


def save(folder: Path, transcoders: Any, kind: str) -> None:
    transcoders.to_safetensors(str(folder))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_kind": kind, "model_name": "m", "scan": "s"} | HOOKS))


def per_layer(*, jumps: bool, skip: bool) -> Any:
    def one(layer: int) -> Any:
        activation = JumpReLU(torch.zeros(F)) if jumps else torch.nn.functional.relu
        return random_weights(SingleLayerTranscoder(D, F, activation, layer, skip, **CPU))

    return TranscoderSet({layer: one(layer) for layer in range(L)}, **HOOKS)


def cross_layer(*, jumps: bool, skip: bool = False) -> Any:
    activation = "jump_relu" if jumps else "relu"
    return random_weights(CrossLayerTranscoder(L, F, D, activation, skip, lazy_decoder=False, **HOOKS, **CPU))


def make(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """A set of each kind, with random weights, saved by circuit-tracer."""
    found: dict[str, Tensor] = {}
    for jumps in (False, True):
        sets = {
            f"per-layer-{jumps}": (per_layer(jumps=jumps, skip=False), "transcoder_set"),
            f"skip-{jumps}": (per_layer(jumps=jumps, skip=True), "transcoder_set"),
            f"cross-layer-{jumps}": (cross_layer(jumps=jumps), "cross_layer_transcoder"),
        }
        for name, (transcoders, kind) in sets.items():
            save(folder / name, transcoders, kind)
            found |= {f"{name}/{key}": tensor for key, tensor in answer(transcoders, x).items()}
    return found


def drop_skip(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """What a cross-layer transcoder with a skip path adds by it, and whether one that it saved has it still."""
    transcoder = cross_layer(jumps=False, skip=True)
    transcoder.to_safetensors(str(folder))
    again = load_clt(str(folder), lazy_decoder=False, **CPU)
    names = {"W_skip": transcoder.W_skip, "added": transcoder.compute_skip(0, x)}
    return names | {"has_skip": torch.tensor(int(again.W_skip is not None))}


def gemma_scope(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """The coders of Gemma Scope in `folder`; and whether the loader of cross-layer ones reads all their layers."""
    first = load_gemma_scope_transcoder(str(folder / "first" / "params.npz"), 0, **CPU)
    second = load_gemma_scope_2_transcoder(str(folder / "second" / "params.safetensors"), 0, **CPU)
    found = {"first/y": first(x), "first/z": first.encode(x), "second/y": second(x), "second/z": second.encode(x)}
    paths = {layer: str(folder / "cross" / f"params_layer_{layer}.safetensors") for layer in range(L)}
    try:
        load_gemma_scope_2_clt(paths, **CPU)
    except RuntimeError:
        return found | {"loaded": torch.tensor(0)}
    return found | {"loaded": torch.tensor(1)}


if __name__ == "__main__":
    action, folder, given, out = sys.argv[1:]
    actions = {"run": run, "make": make, "drop_skip": drop_skip, "gemma_scope": gemma_scope}
    torch.manual_seed(0)
    with torch.no_grad():
        found = actions[action](Path(folder), load_file(given)["x"])
    save_file({name: tensor.clone().contiguous() for name, tensor in found.items()}, out)

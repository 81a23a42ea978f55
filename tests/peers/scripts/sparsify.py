"""Run by sparsify's own Python: `sparsify.py ACTION FOLDER GIVEN ANSWER`."""

import sys
from pathlib import Path
from typing import Any

# This file has the name of the package that it imports, and lies first on the path.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from sparsify import SparseCoder, SparseCoderConfig  # noqa: E402
from torch import Tensor  # noqa: E402

D, F, K = 6, 24, 4


def answer(coders: dict[str, Any], x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, coder in coders.items():
        top = coder.encode(x)
        z = torch.zeros(len(x), coder.num_latents).scatter(1, top.top_indices, top.top_acts)
        found |= {f"{name}/z": z, f"{name}/y": coder(x).sae_out}
    return found


def run(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """Every coder in the folder, as sparsify reads it."""
    return answer(SparseCoder.load_many(str(folder), local=True), x)


def make(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """A coder of each kind, with random weights, saved by sparsify below a folder of its kind."""
    kinds = {"sae": {}, "transcoder": {"transcode": True}, "skip": {"transcode": True, "skip_connection": True}}
    coders = {}
    for name, options in kinds.items():
        coders[name] = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K, **options))
        for parameter in coders[name].parameters():
            parameter.data = torch.randn_like(parameter)
        coders[name].save_to_disk(folder / name / "layers.1.mlp")
    return answer(coders, x)


if __name__ == "__main__":
    action, folder, given, out = sys.argv[1:]
    torch.manual_seed(0)
    with torch.no_grad():
        found = {"run": run, "make": make}[action](Path(folder), load_file(given)["x"])
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out)

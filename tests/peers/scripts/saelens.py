"""Run by SAELens' own Python: `saelens.py ACTION FOLDER GIVEN ANSWER`."""

import sys
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from sae_lens.saes.transcoder import (
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

D, F = 6, 24


def answer(saes: dict[str, Any], x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, sae in saes.items():
        found |= {f"{name}/z": sae.encode(x), f"{name}/y": sae(x)}
    return found


def run(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """Every coder in the folder, as SAELens reads it."""
    return answer({path.name: SAE.load_from_disk(path) for path in sorted(folder.iterdir())}, x)


def make(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """A coder of each architecture, with random weights, saved by SAELens."""
    sae = {"metadata": SAEMetadata(hook_name="blocks.1.hook_mlp_out")}
    both = {"hook_name": "blocks.1.mlp.hook_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    transcoder = {"d_out": D, "apply_b_dec_to_input": False, "metadata": SAEMetadata(**both)}
    kinds = {
        "standard": (StandardSAE, StandardSAEConfig, sae),
        "standard-uncentred": (StandardSAE, StandardSAEConfig, sae | {"apply_b_dec_to_input": False}),
        "topk": (TopKSAE, TopKSAEConfig, sae | {"k": 4}),
        "topk-rescaled": (TopKSAE, TopKSAEConfig, sae | {"k": 4, "rescale_acts_by_decoder_norm": True}),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, sae),
        "transcoder": (Transcoder, TranscoderConfig, transcoder),
        "skip": (SkipTranscoder, SkipTranscoderConfig, transcoder),
        "jumprelu-transcoder": (JumpReLUTranscoder, JumpReLUTranscoderConfig, transcoder),
        "jumprelu-skip": (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, transcoder),
    }
    saes = {}
    for name, (cls, config, options) in kinds.items():
        saes[name] = cls(config(d_in=D, d_sae=F, **options))
        for parameter in saes[name].parameters():
            parameter.data = torch.randn_like(parameter)
        saes[name].save_model(folder / name)
    return answer(saes, x)


def read_sparsify(folder: Path, x: Tensor) -> dict[str, Tensor]:
    """Whether SAELens' loader of sparsify's checkpoints finds weights of the wrong size: 1 or 0."""
    try:
        SAE.load_from_disk(folder, converter=sparsify_disk_loader)
    except RuntimeError as error:
        return {"mismatch": torch.tensor(int("size mismatch" in str(error)))}
    return {"mismatch": torch.tensor(0)}


if __name__ == "__main__":
    action, folder, given, out = sys.argv[1:]
    torch.manual_seed(0)
    with torch.no_grad():
        found = {"run": run, "make": make, "read_sparsify": read_sparsify}[action](Path(folder), load_file(given)["x"])
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out)

"""Sparsify's side: its `Trainer` on a CPU, a step at a time. Run as a child, see `benchmarks.line`.

Its command needs CUDA; its trainer does not. What was chosen for it: the model without its head, which training does
not need, and without a key-value cache; the eager decoder, as Triton has no CPU; `micro_acc_steps` 1, its default: 4
and 16 took the same time. It runs the whole model whatever the layer, and learns from position 0 too, as it can leave
out tokens but not positions; at layer 10 that is 4 % of the variance of the outputs.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from benchmarks.line import Line

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Token ids [n, context], and word to the line whenever the first row of another batch is asked for."""

    def __init__(self, tokens: np.ndarray, batch_size: int, line: Line) -> None:
        self._tokens, self._batch_size, self._line = tokens, batch_size, line

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        if row and row % self._batch_size == 0:
            self._line.stepped()
        return {"input_ids": torch.from_numpy(self._tokens[row])}


def main() -> None:
    line = Line()
    from sparsify import SparseCoderConfig, TrainConfig, Trainer  # prints when it is imported

    asked = line.setup()
    model = AutoModel.from_pretrained(asked["model"], dtype=torch.float32)
    model.config.use_cache = False
    tokens = np.load(asked["tokens"])[: asked["steps"] * asked["rows_per_step"]]
    line.ready()
    config = TrainConfig(
        SparseCoderConfig(num_latents=asked["n_features"], k=asked["k"], transcode=True, normalize_decoder=False),
        hookpoints=[f"layers.{layer}.mlp" for layer in asked["layers"]],
        batch_size=asked["rows_per_step"],
        optimizer="adam",
        lr=asked["lr"],
        lr_warmup_steps=asked["warmup_steps"],
        log_to_wandb=False,
        save_dir=asked["out"],
    )
    Trainer(config, Rows(tokens, asked["rows_per_step"], line), model).fit()
    line.stepped()
    line.finish({"coder": str(Path(asked["out"], "unnamed", config.hookpoints[0]))})


if __name__ == "__main__":
    main()

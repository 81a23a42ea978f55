"""A peer's weights are scored as the function that the peer itself computes."""

from pathlib import Path

import pytest
import torch
from benchmarks.scoring import sparsify_coder
from safetensors.torch import save_file

from clew_spec.coders import CoderConfig, TopK

pytestmark = pytest.mark.science

F, D, K = 40, 12, 4


def test_a_coder_of_sparsify_is_read_as_it_is_meant(tmp_path: Path) -> None:
    """TopK of what ReLU left, decoded by the rows of `W_dec`; nothing is taken off the input."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    stored = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    stored["encoder.bias"] -= 4  # so that some tokens have fewer than K positive features
    save_file(stored, tmp_path / "sae.safetensors")
    config = CoderConfig(
        activation=TopK(k=K),
        n_features=F,
        d_in=D,
        d_out=D,
        layer=1,
        model_digest="m",
        tokenizer_digest="t",
        dataset_digest="d",
        bos="none",
    )
    coder = sparsify_coder(tmp_path, config)

    x_ND = torch.randn(50, D, generator=generator)
    rectified_NF = (x_ND @ stored["encoder.weight"].T + stored["encoder.bias"]).relu()
    kept_NK, features_NK = rectified_NF.topk(K)
    z_NF = torch.zeros(50, F).scatter(1, features_NK, kept_NK)
    assert ((z_NF > 0).sum(1) < K).any()
    torch.testing.assert_close(coder.forward(x_ND), z_NF @ stored["W_dec"] + stored["b_dec"])

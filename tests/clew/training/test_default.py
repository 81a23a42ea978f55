"""A plain TopK transcoder with no options is, bit for bit, what this short account of it makes."""

import math
from pathlib import Path

import pytest
import torch
from tests.clew.toys import toy_model
from tests.clew.training.test_trainer import Recorder, run
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

from clew.coders import load_coder
from clew.data import Dataset
from clew.models import Model, mlp_activations
from clew.training.stream import TokenStream, seeded

pytestmark = pytest.mark.science

F, K, STEPS, ROWS, LAYER = 40, 4, 13, 3, 2
NAMES = ["W_enc", "b_enc", "W_dec", "b_dec"]


def seen(model: Model, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    found = mlp_activations(model, tokens_BT, [LAYER])[LAYER]
    return found.x_BTD[:, 1:].flatten(0, 1), found.y_BTD[:, 1:].flatten(0, 1)


def encode(weights: list[Tensor], x_ND: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = linear(x_ND, weights[0], weights[1]).topk(K + 1, dim=-1)
    return indices[:, :K].contiguous(), values[:, :K].contiguous().relu()


def decode(weights: list[Tensor], indices: Tensor, values: Tensor) -> Tensor:
    return embedding_bag(indices, weights[2], per_sample_weights=values, mode="sum") + weights[3]


def begin(x_ND: Tensor, y_ND: Tensor, in_batch: int) -> tuple[list[Tensor], list[float]]:
    mean_x, mean_y = x_ND.mean(0), y_ND.mean(0)
    unit_x, unit_y = (float((a - mean).double().square().mean().sqrt()) for a, mean in ((x_ND, mean_x), (y_ND, mean_y)))
    drawn = torch.randperm(len(x_ND) - in_batch, generator=seeded(0, f"first/{LAYER}"))[:F]
    x_FD, y_FD = x_ND[drawn] - mean_x, y_ND[drawn] - mean_y
    W_enc = x_FD / x_FD.norm(dim=1, keepdim=True) / unit_x
    W_dec = y_FD / y_FD.norm(dim=1, keepdim=True) * unit_y
    weights = [W_enc, -W_enc @ mean_x, W_dec, mean_y]
    guess = decode(weights, *encode(weights, x_ND[-in_batch:])) - mean_y
    W_dec *= (guess * (y_ND[-in_batch:] - mean_y)).sum() / guess.square().sum()
    return weights, [1 / unit_x, 1.0, unit_y, unit_y]


def gradients(weights: list[Tensor], x_ND: Tensor, y_ND: Tensor) -> list[Tensor]:
    indices, values = encode(weights, x_ND)
    error = decode(weights, indices, values) - y_ND
    grad_y = error * (2 / (y_ND - y_ND.mean(0)).square().sum())
    leaf = values.clone().requires_grad_()
    (grad_z,) = torch.autograd.grad(decode(weights, indices, leaf), leaf, grad_y)
    grad_pre = grad_z * (values > 0)
    features, order = indices.flatten().sort(stable=True)
    starts = torch.searchsorted(features, torch.arange(F))

    def sums(pairs: Tensor, rows: Tensor) -> Tensor:
        return embedding_bag(order // K, rows, starts, per_sample_weights=pairs.flatten()[order], mode="sum")

    ones = x_ND.new_ones(len(x_ND), 1)
    return [sums(grad_pre, x_ND), sums(grad_pre, ones)[:, 0], sums(values, grad_y), grad_y.sum(0)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_defaults_train_these_bits(dataset: Dataset, tmp_path: Path, dtype: torch.dtype) -> None:
    model = toy_model(dtype=dtype)
    stream = TokenStream(dataset.train, rows_per_step=ROWS, seed=0)
    in_batch = ROWS * 15
    first = [seen(model, stream.batch(step).tokens_BT) for step in range(math.ceil(F / in_batch) + 1)]
    x_ND, y_ND = (torch.cat(parts) for parts in zip(*first, strict=True))
    weights, units = begin(x_ND, y_ND, in_batch)
    groups = [{"params": [w], "eps": 1e-8 / unit} for w, unit in zip(weights, units, strict=True)]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.999), fused=True)
    for step in range(STEPS):
        falling = min(1.0, (STEPS - step) / (0.2 * STEPS))
        rate = 4e-3 * min(1.0, (step + 1) / 3) * falling
        batch = seen(model, stream.batch(step).tokens_BT)
        for w, gradient, group, unit in zip(weights, gradients(weights, *batch), adam.param_groups, units, strict=True):
            w.grad, group["lr"] = gradient, rate * unit
        adam.step()

    run(model, dataset, tmp_path, Recorder(), layers=[LAYER])
    trained = load_coder(tmp_path / "coders" / "L02").parameters()
    assert list(trained) == NAMES
    for name, expected in zip(NAMES, weights, strict=True):
        assert torch.equal(trained[name], expected), name

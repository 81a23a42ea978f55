"""A cross-layer transcoder learns from every layer that it writes to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.coders.test_activations import ACTIVATIONS
from tests.clew.training.test_trainer import Recorder, run
from torch import Tensor

from clew.coders import Coder, activate, load_coder
from clew.coders.coder import shapes
from clew.data import Dataset
from clew.evaluation import Fvu
from clew.models import Model, mlp_activations
from clew.training.gradients import JointLoss
from clew.training.optimizer import learned
from clew_spec.coders import Activation, CoderConfig, CoderSpec, JumpReLU, TopK
from clew_spec.losses import LossSpec
from clew_spec.training import CoderVariant

pytestmark = pytest.mark.science

LAYERS, N, F, D = (0, 1, 2), 30, 20, 6


def random_coders(activation: Activation) -> dict[int, Coder]:
    generator = torch.Generator().manual_seed(0)
    coders = {}
    for layer in LAYERS:
        config = CoderConfig(
            kind="cross-layer-transcoder",
            activation=activation,
            n_features=F,
            d_in=D,
            d_out=D,
            layer=layer,
            later_layers=[later for later in LAYERS if later > layer],
            dtype="float64",
            model_digest="",
            tokenizer_digest="",
            dataset_digest="",
            bos="none",
        )
        coders[layer] = Coder.of(
            config,
            {
                name: torch.randn(shape, generator=generator, dtype=torch.float64)
                for name, shape in shapes(config).items()
            },
        )
    return coders


@pytest.mark.parametrize("sparsity", ["none", "l1", "l1-decoder-norm"])
@pytest.mark.parametrize(
    "activation", [each for each in ACTIVATIONS if not isinstance(each, JumpReLU)], ids=lambda a: a.kind
)
def test_its_gradients_are_autograds_through_all_layers_together(activation: Activation, sparsity: Any) -> None:
    loss = LossSpec(fidelity="mse", sparsity=sparsity, sparsity_weight=0.0 if sparsity == "none" else 0.3)
    coders = random_coders(activation)
    generator = torch.Generator().manual_seed(1)
    x, y = ({i: torch.randn(N, D, generator=generator, dtype=torch.float64) for i in LAYERS} for _ in range(2))
    joint = JointLoss(coders, loss)
    for layer in LAYERS:
        assert not joint.complete
        joint.at(layer, x[layer], y[layer])
    steps = joint.steps()

    leaves = {i: {k: v.clone().requires_grad_() for k, v in coder.parameters().items()} for i, coder in coders.items()}
    taught = {i: Coder.of(coders[i].config, leaves[i]) for i in LAYERS}
    z: dict[int, Tensor] = {}
    total = torch.zeros((), dtype=torch.float64)
    for layer, coder in taught.items():
        pre_NF = coder.pre_activations(x[layer])
        with torch.no_grad():
            indices, values = activate(activation, pre_NF, coder.threshold, learning=True)
            active_NF = torch.zeros_like(pre_NF).scatter(1, indices, (values > 0).to(pre_NF))
        z[layer] = pre_NF * active_NF
        y_hat_ND = z[layer] @ coder.W_dec + coder.b_dec
        for below in range(layer):
            y_hat_ND = y_hat_ND + z[below] @ taught[below].W_later[layer]
        fidelity = (y[layer] - y_hat_ND).square().sum(1).mean()
        torch.testing.assert_close(steps[layer].terms["mse"], fidelity.detach(), rtol=1e-12, atol=0)
        total = total + fidelity
        weights_F = torch.ones(F, dtype=torch.float64)
        if sparsity == "l1-decoder-norm":  # of all that a feature writes, wherever
            weights_F = torch.cat([coder.W_dec, *coder.W_later.values()], dim=1).norm(dim=1)
        if sparsity != "none":
            total = total + loss.sparsity_weight * (z[layer] * weights_F).sum(1).mean()
    for layer, coder in taught.items():
        names = list(learned(coder))
        assert set(names) == set(steps[layer].gradients)
        found = torch.autograd.grad(total, [learned(coder)[name] for name in names], retain_graph=True)
        for name, expected in zip(names, found, strict=True):
            torch.testing.assert_close(
                steps[layer].gradients[name], expected, rtol=1e-9, atol=1e-13, msg=f"{layer} {name}"
            )


def test_trained_it_writes_later_layers_better_than_its_own_decoders_alone(
    model: Model, larger_dataset: Dataset, tmp_path: Path
) -> None:
    crossing = CoderVariant(name="crossing", kind="cross-layer-transcoder", n_features=48, activation=TopK(k=6))
    changes: dict[str, Any] = {"steps": 100, "layers": [0, 1, 2], "coder": CoderSpec(), "coders": [crossing]}
    trained = run(model, larger_dataset, tmp_path, Recorder(steps=100), **changes)
    assert all(last < 0.9 * first for first, last in (each.trained_fvu for each in trained))
    coders = {layer: load_coder(tmp_path / "coders" / f"L{layer:02d}.crossing") for layer in LAYERS}
    assert [coder.config.later_layers for coder in coders.values()] == [[1, 2], [2], []]
    found = mlp_activations(model, larger_dataset.heldout[:], LAYERS)
    z: dict[int, Tensor] = {}
    for layer, coder in coders.items():
        x_ND, y_ND = found[layer].x_BTD[:, 1:].flatten(0, 1), found[layer].y_BTD[:, 1:].flatten(0, 1)
        indices_NK, values_NK = coder.encode(x_ND)
        z[layer] = torch.zeros(len(x_ND), 48, dtype=x_ND.dtype).scatter(1, indices_NK, values_NK)
        own_ND = z[layer] @ coder.W_dec + coder.b_dec
        whole_ND = own_ND + sum(z[below] @ coders[below].W_later[layer] for below in range(layer))
        whole, own = Fvu(), Fvu()
        whole.update(y_ND, whole_ND)
        own.update(y_ND, own_ND)
        if layer:
            assert whole.value() < own.value()
    last = Fvu()
    last.update(y_ND, whole_ND)
    assert last.value() < 1

"""The sparse gradients are the gradients."""

import pytest
import torch

from clew.coders import Coder
from clew.training.gradients import loss_and_gradients
from clew_spec.coders import CoderConfig, TopK

pytestmark = pytest.mark.science


@pytest.mark.parametrize(("n_features", "k"), [(30, 5), (30, 30), (400, 3)])
def test_they_equal_autograd_through_the_dense_formula(n_features: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n_features + k)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = CoderConfig(
        activation=TopK(k=k),
        n_features=n_features,
        d_in=6,
        d_out=9,
        layer=0,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    # Biases low enough that with k = F some of the chosen are silent, and features beyond any token's reach.
    b_enc = normal(n_features) - 1
    b_enc[:4] = -1e3
    coder = Coder(config, normal(n_features, 6), b_enc, normal(n_features, 9), normal(9))
    x_ND, y_ND = normal(40, 6), normal(40, 9)
    step = loss_and_gradients(coder, x_ND, y_ND)

    parameters = {name: parameter.clone().requires_grad_() for name, parameter in coder.parameters().items()}
    pre_NF = x_ND @ parameters["W_enc"].T + parameters["b_enc"]
    threshold_N1 = pre_NF.sort(dim=1, descending=True).values[:, k - 1 : k]
    z_NF = torch.where(pre_NF >= threshold_N1, pre_NF, 0.0).relu()
    error_ND = z_NF @ parameters["W_dec"] + parameters["b_dec"] - y_ND
    fvu = error_ND.square().sum() / (y_ND - y_ND.mean(0)).square().sum()
    gradients = torch.autograd.grad(fvu, list(parameters.values()))

    torch.testing.assert_close(step.fvu, fvu.detach(), rtol=1e-12, atol=0)
    assert float(step.l0) == float((z_NF > 0).sum()) / 40
    for name, expected in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(step.gradients[name], expected, rtol=1e-10, atol=1e-14, msg=name)
    assert not step.gradients["W_enc"][:4].any()

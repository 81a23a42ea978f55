"""The sparse gradients are the gradients."""

from typing import Any

import pytest
import torch
from tests.clew.coders.test_activations import ACTIVATIONS, KINDS, make
from torch import Tensor

from clew.coders import Coder, activate
from clew.training.gradients import Step, loss_and_gradients
from clew.training.optimizer import learned
from clew_spec.coders import Activation, JumpReLU, Kind, TopK
from clew_spec.losses import AuxK, Fidelity, LossSpec, Sparsity

pytestmark = pytest.mark.science

N = 40
FIDELITIES: list[Fidelity] = ["fvu", "mse", "norm-scaled"]
SPARSITIES: list[Sparsity] = ["none", "l1", "l1-decoder-norm", "l0"]


def batch(coder: Coder) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x_ND = torch.randn(N, coder.config.d_in, generator=generator, dtype=torch.float64)
    y_ND = torch.randn(N, coder.config.d_out, generator=generator, dtype=torch.float64)
    return x_ND, x_ND if coder.config.kind == "sae" else y_ND


class _Jump(torch.autograd.Function):
    """z = pre H(pre - theta) and H itself, with the pseudo-derivatives of Rajamanoharan et al. 2024."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        active = (pre > theta).to(pre)
        return pre * active, active

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_active: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, theta = ctx.saved_tensors
        kernel = (((pre - theta) / ctx.width).abs() < 0.5).to(pre) / ctx.width
        by_theta = -(theta * grad_z + grad_active) * kernel
        return grad_z * (pre > theta), by_theta.sum(0), None


jump: Any = _Jump.apply


def dense_loss(coder: Coder, x_ND: Tensor, y_ND: Tensor, loss: LossSpec, dead_F: Tensor | None) -> dict[str, Tensor]:
    """The terms, as autograd understands them."""
    pre_NF = coder.pre_activations(x_ND)
    if isinstance(coder.config.activation, JumpReLU):
        z_NF, active_NF = jump(pre_NF, coder.threshold, coder.config.activation.bandwidth)
    else:
        with torch.no_grad():
            indices, values = activate(coder.config.activation, pre_NF, coder.threshold, learning=True)
            active_NF = torch.zeros_like(pre_NF).scatter(1, indices, (values > 0).to(pre_NF))
        z_NF = pre_NF * active_NF
    y_hat_ND = z_NF @ coder.W_dec + coder.b_dec
    if coder.W_skip is not None:
        y_hat_ND = y_hat_ND + x_ND @ coder.W_skip.T

    def missed(target: Tensor, guess: Tensor) -> Tensor:
        squares = (target - guess).square()
        measures: dict[Fidelity, Tensor] = {
            "fvu": squares.sum() / (target - target.mean(0)).square().sum(),
            "mse": squares.sum(1).mean(),
            "norm-scaled": (squares / target.norm(dim=1, keepdim=True)).mean(),
        }
        return measures[loss.fidelity]

    terms: dict[str, Tensor] = {loss.fidelity: missed(y_ND, y_hat_ND)}
    if loss.sparsity != "none":
        of_token = {
            "l1": z_NF.sum(1),
            "l1-decoder-norm": (z_NF * coder.W_dec.norm(dim=1)).sum(1),
            "l0": active_NF.sum(1),
        }[loss.sparsity]
        terms["sparsity"] = loss.sparsity_weight * of_token.mean()
    if loss.auxk is not None:
        terms["auxk"] = pre_NF.new_zeros(())
    if loss.auxk is not None and dead_F is not None:
        dead_NF = pre_NF.masked_fill(~dead_F, -torch.inf)
        chosen = dead_NF.topk(min(loss.auxk.k, int(dead_F.sum())), dim=1)
        z_aux_NF = torch.zeros_like(pre_NF).scatter(1, chosen.indices, chosen.values.relu())
        residual_ND = (y_ND - y_hat_ND).detach()
        terms["auxk"] = loss.auxk.weight * missed(residual_ND, z_aux_NF @ coder.W_dec)
    return terms


def both(coder: Coder, loss: LossSpec, dead_F: Tensor | None = None) -> tuple[Step, dict[str, Tensor]]:
    """What is measured here, and autograd's gradients; the terms are compared on the way."""
    x_ND, y_ND = batch(coder)
    step = loss_and_gradients(coder, x_ND, y_ND, loss, dead_F=dead_F)
    taught = Coder.of(coder.config, {k: v.clone().requires_grad_() for k, v in coder.parameters().items()})
    terms = dense_loss(taught, x_ND, y_ND, loss, dead_F)
    assert set(terms) == set(step.terms)
    for name, expected in terms.items():
        torch.testing.assert_close(step.terms[name], expected.detach(), rtol=1e-12, atol=0, msg=name)
    names = list(learned(taught))
    gradients = torch.autograd.grad(sum(terms.values(), torch.zeros(())), list(learned(taught).values()))
    return step, dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: each.kind)
def test_they_equal_autograd_through_the_dense_formula(
    fidelity: Fidelity, sparsity: Sparsity, kind: Kind, activation: Activation
) -> None:
    if sparsity == "l0" and not isinstance(activation, JumpReLU):
        return  # the spec refuses it: see tests/clew_spec
    weight = 0.0 if sparsity == "none" else 0.3
    loss = LossSpec(fidelity=fidelity, sparsity=sparsity, sparsity_weight=weight, auxk=AuxK(k=3, weight=0.5))
    coder = make(kind, activation)
    coder.b_enc[:8] -= 2
    dead_F = torch.arange(24) < 8
    for dead in (None, dead_F):
        step, gradients = both(coder, loss, dead)
        assert set(step.gradients) == set(gradients)
        for name, expected in gradients.items():
            torch.testing.assert_close(step.gradients[name], expected, rtol=1e-9, atol=1e-13, msg=name)


@pytest.mark.parametrize(("n_features", "k"), [(30, 5), (30, 30), (400, 3)])
def test_features_beyond_reach_get_none(n_features: int, k: int) -> None:
    coder = make("transcoder", TopK(k=k), n_features=n_features)
    # Biases low enough that with k = F some of the chosen are silent, and features beyond any token's reach.
    coder.b_enc.sub_(1)
    coder.b_enc[:4] = -1e3
    step, gradients = both(coder, LossSpec())
    for name, expected in gradients.items():
        torch.testing.assert_close(step.gradients[name], expected, rtol=1e-10, atol=1e-14, msg=name)
    assert not step.gradients["W_enc"][:4].any()


@pytest.mark.parametrize(("fidelity", "degree"), [("fvu", 0), ("mse", 2), ("norm-scaled", 1)])
def test_fidelities_scale_with_the_output_as_their_degree_says_and_l1_once(fidelity: Fidelity, degree: int) -> None:
    """A4: (y, y_hat, z) to c times as much."""
    loss, c = LossSpec(fidelity=fidelity, sparsity="l1", sparsity_weight=0.3), 3.7
    coder = make("transcoder", TopK(k=4))
    x_ND, y_ND = batch(coder)
    once = loss_and_gradients(coder, x_ND, y_ND, loss).terms
    louder = Coder(coder.config, c * coder.W_enc, c * coder.b_enc, coder.W_dec, c * coder.b_dec)
    scaled = loss_and_gradients(louder, x_ND, c * y_ND, loss).terms
    assert float(scaled[fidelity]) == pytest.approx(c**degree * float(once[fidelity]), rel=1e-12)
    assert float(scaled["sparsity"]) == pytest.approx(c * float(once["sparsity"]), rel=1e-12)


@pytest.mark.parametrize("sparsity", ["l1", "l1-decoder-norm", "l0"])
def test_lambda_doubled_doubles_its_term_alone(sparsity: Sparsity) -> None:
    """A5."""
    coder = make("transcoder", JumpReLU())
    x_ND, y_ND = batch(coder)

    def terms(weight: float) -> dict[str, float]:
        loss = LossSpec(sparsity=sparsity, sparsity_weight=weight)
        return {name: float(term) for name, term in loss_and_gradients(coder, x_ND, y_ND, loss).terms.items()}

    once, twice, nothing = terms(0.2), terms(0.4), terms(0.0)
    assert once["fvu"] == twice["fvu"] == nothing["fvu"]
    assert twice["sparsity"] == pytest.approx(2 * once["sparsity"], rel=1e-15)
    assert once["sparsity"] > 0 == nothing["sparsity"]

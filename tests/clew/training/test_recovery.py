"""What was planted is found, and what is dead comes back."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from clew.coders import Coder
from clew.training.gradients import loss_and_gradients
from clew.training.initial import first_coder
from clew.training.optimizer import Units, hold, learned, optimizer_of, rate_at, set_rate
from clew.training.watch import calibrate, count_silence
from clew_spec.coders import Activation, BatchTopK, CoderConfig, JumpReLU, TopK
from clew_spec.losses import AuxK, LossSpec
from clew_spec.training import OptimizerSpec

pytestmark = pytest.mark.science

D_IN, D_OUT, TRUE, ACTIVE = 24, 20, 40, 3


def config(activation: Activation, n_features: int, loss: LossSpec) -> CoderConfig:
    return CoderConfig(
        activation=activation,
        n_features=n_features,
        d_in=D_IN,
        d_out=D_OUT,
        layer=0,
        loss=loss,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )


def fit(
    coder: Coder,
    units: Units,
    batches: list[tuple[Tensor, Tensor]],
    loss: LossSpec,
    rate: float,
    kind: Literal["adam", "adafactor"] = "adam",
) -> Tensor:
    """Train on `batches`, one a step; int64 [F]: for how many tokens each feature has been silent at the end."""
    spec = OptimizerSpec(lr=rate, kind=kind)
    optimizer = optimizer_of(coder, units, spec)
    silence_F = torch.zeros(coder.config.n_features, dtype=torch.int64)
    for step, (x_ND, y_ND) in enumerate(batches):
        dead_F = silence_F >= loss.auxk.dead_after_tokens if loss.auxk else None
        found = loss_and_gradients(coder, x_ND, y_ND, loss, dead_F=dead_F)
        for name, parameter in learned(coder).items():
            parameter.grad = found.gradients[name]
        calibrate(coder, found.values_NK, step=step + 1)
        count_silence(silence_F, found.indices_NK, found.values_NK)
        set_rate(optimizer, rate_at(spec, step, len(batches)))
        optimizer.step()
        hold(coder, spec)
    return silence_F


class Planted:
    """Sparse causes: x = sum s a_i, y = sum s b_i, with a few of `TRUE` unit directions a and b at a time."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.reads, self.writes = (self.directions(d) for d in (D_IN, D_OUT))

    def directions(self, d: int) -> Tensor:
        rows = torch.randn(TRUE, d, generator=self.generator)
        units: Tensor = rows / rows.norm(dim=1, keepdim=True)
        return units

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        chosen = torch.rand(n, TRUE, generator=self.generator).topk(ACTIVE, dim=1).indices
        loudness = 0.5 + torch.rand(n, ACTIVE, generator=self.generator)
        causes = torch.zeros(n, TRUE).scatter(1, chosen, loudness)
        return causes @ self.reads, causes @ self.writes


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (TopK(k=ACTIVE), "adam"),
        (BatchTopK(k=ACTIVE), "adam"),
        (JumpReLU(bandwidth=0.2), "adam"),
        (TopK(k=ACTIVE), "adafactor"),
    ],
    ids=["topk", "batchtopk", "jumprelu", "topk-adafactor"],
)
def test_a_planted_dictionary_is_recovered(activation: Activation, kind: Literal["adam", "adafactor"]) -> None:
    """A11: at least 90 % of the true directions have a decoder row at cosine 0.9."""
    planted = Planted()
    jump = isinstance(activation, JumpReLU)
    loss = LossSpec(sparsity="l0", sparsity_weight=0.02, sparsity_warmup_steps=200) if jump else LossSpec()
    coder, units = first_coder(
        config(activation, 2 * TRUE, loss), *planted.batch(600), slice(-256, None), torch.Generator().manual_seed(0)
    )
    fit(coder, units, [planted.batch(256) for _ in range(900)], loss, rate=1e-2, kind=kind)
    rows_FD = coder.W_dec / coder.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)
    best_T = (rows_FD @ planted.writes.T).abs().max(0).values
    assert float((best_T >= 0.9).float().mean()) >= 0.9


def test_auxk_revives_what_was_planted_dead() -> None:
    """A10, with d_in unlike d_out."""
    planted = Planted()
    batches = [planted.batch(256) for _ in range(150)]
    plain = LossSpec()
    auxk = LossSpec(auxk=AuxK(k=8, weight=1.0, dead_after_tokens=512))
    n_dead, dead = 24, {}
    for name, loss in (("plain", plain), ("auxk", auxk)):
        coder, units = first_coder(
            config(TopK(k=ACTIVE), TRUE, loss),
            *planted.batch(600),
            slice(-256, None),
            torch.Generator().manual_seed(0),
        )
        coder.b_enc[:n_dead] -= 5
        before = fit(coder, units, batches[:3], plain, rate=1e-9)
        assert int((before >= 3 * 256).sum()) >= n_dead - 4, "planted"
        silence_F = fit(coder, units, batches, loss, rate=1e-2)
        dead[name] = int((silence_F >= 2048).sum())
    assert dead["plain"] >= n_dead - 8
    assert dead["auxk"] <= dead["plain"] / 3

"""Every activation, in use, is its formula for each token alone; and survives a trip to disk."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clew.coders import Coder, activate, load_coder, save_coder
from clew.coders.coder import shapes
from clew_spec.coders import Activation, BatchTopK, CoderConfig, JumpReLU, Kind, ReLU, TopK
from clew_spec.errors import ModelError
from clew_spec.results import Lineage

pytestmark = pytest.mark.science

ACTIVATIONS: list[Activation] = [ReLU(), TopK(k=4), BatchTopK(k=4), JumpReLU(bandwidth=0.6)]
KINDS: list[Kind] = ["transcoder", "skip-transcoder", "sae"]


def make(kind: Kind, activation: Activation, *, n_features: int = 24, d_in: int = 6, seed: int = 0) -> Coder:
    generator = torch.Generator().manual_seed(seed)
    config = CoderConfig(
        kind=kind,
        activation=activation,
        n_features=n_features,
        d_in=d_in,
        d_out=d_in if kind == "sae" else 9,
        layer=1,
        centred=kind == "sae",
        dtype="float64",
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
    )
    weights = {
        name: torch.randn(*shape, generator=generator, dtype=torch.float64) for name, shape in shapes(config).items()
    }
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].abs()
    return Coder.of(config, weights)


def inputs(n: int = 50, d: int = 6) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def dense(pre_NF: Tensor, indices_NK: Tensor, values_NK: Tensor) -> Tensor:
    assert all(len(set(row)) == len(row) for row in indices_NK.tolist()), "each index once"
    assert (values_NK.diff(dim=1) <= 0).all(), "largest first"
    return torch.zeros_like(pre_NF).scatter(1, indices_NK, values_NK)


def by_hand(coder: Coder, pre_NF: Tensor) -> Tensor:
    match coder.config.activation:
        case TopK(k=k):
            least_N1 = pre_NF.sort(dim=1, descending=True).values[:, k - 1 : k]
            return torch.where(pre_NF >= least_N1, pre_NF, 0.0).relu()
        case ReLU():
            return pre_NF.relu()
        case _:
            assert coder.threshold is not None
            return pre_NF * (pre_NF > coder.threshold)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: each.kind)
def test_a_coder_is_its_dense_formula_token_by_token_and_on_disk(
    kind: Kind, activation: Activation, tmp_path: Path
) -> None:
    coder, x_ND = make(kind, activation), inputs()
    read_ND = x_ND - coder.b_dec if kind == "sae" else x_ND
    pre_NF = read_ND @ coder.W_enc.T + coder.b_enc
    z_NF = by_hand(coder, pre_NF)
    torch.testing.assert_close(dense(pre_NF, *coder.encode(x_ND)), z_NF, rtol=1e-12, atol=0)
    y_hat_ND = z_NF @ coder.W_dec + coder.b_dec
    if coder.W_skip is not None:
        y_hat_ND = y_hat_ND + x_ND @ coder.W_skip.T
    torch.testing.assert_close(coder.forward(x_ND), y_hat_ND)
    for batch in (x_ND[:1], x_ND[7:20], x_ND[:0]):
        alone_NF = by_hand(coder, coder.pre_activations(batch)) if len(batch) else pre_NF[:0]
        torch.testing.assert_close(dense(alone_NF, *coder.encode(batch)), alone_NF, rtol=1e-12, atol=0)

    save_coder(coder, tmp_path / "L01", Lineage(code_version="test"))
    loaded = load_coder(tmp_path / "L01")
    assert loaded.config == coder.config
    assert torch.equal(loaded.forward(x_ND), coder.forward(x_ND))


@given(st.integers(1, 4), st.lists(st.lists(st.integers(-2, 2), min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_learning_batch_keeps_k_a_token_of_equals_the_first(k: int, rows: list[list[int]]) -> None:
    pre_NF = torch.tensor(rows, dtype=torch.float64)
    z_NF = dense(pre_NF, *activate(BatchTopK(k=k), pre_NF, learning=True))
    flat = pre_NF.flatten().tolist()
    best = sorted(range(len(flat)), key=lambda place: (-flat[place], place))[: k * len(rows)]
    expected = [flat[place] if place in best and flat[place] > 0 else 0 for place in range(len(flat))]
    assert z_NF.flatten().tolist() == expected


def test_jumprelu_shows_those_near_their_threshold_while_it_learns() -> None:
    coder = make("transcoder", JumpReLU(bandwidth=0.6))
    assert coder.threshold is not None
    pre_NF = coder.pre_activations(inputs())
    indices_NK, values_NK = activate(coder.config.activation, pre_NF, coder.threshold, learning=True)
    torch.testing.assert_close(dense(pre_NF, *_sorted(indices_NK, values_NK)), by_hand(coder, pre_NF))
    shown = torch.zeros_like(pre_NF, dtype=torch.bool).scatter(1, indices_NK, value=True)
    assert shown[(pre_NF - coder.threshold).abs() < 0.3].all()


def _sorted(indices_NK: Tensor, values_NK: Tensor) -> tuple[Tensor, Tensor]:
    order = values_NK.argsort(dim=1, descending=True)
    return indices_NK.gather(1, order), values_NK.gather(1, order)


@pytest.mark.parametrize("activation", [ReLU(), TopK(k=24), JumpReLU()], ids=lambda each: each.kind)
def test_rescaling_features_leaves_outputs_and_what_each_writes(activation: Activation) -> None:
    """A2."""
    coder, x_ND = make("skip-transcoder", activation), inputs()
    scale_F = torch.rand(24, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + 0.5
    weights = coder.parameters()
    weights |= {name: weights[name] * scale_F for name in ("b_enc", "threshold") if name in weights}
    weights |= {"W_enc": weights["W_enc"] * scale_F[:, None], "W_dec": weights["W_dec"] / scale_F[:, None]}
    scaled = Coder.of(coder.config, weights)
    torch.testing.assert_close(scaled.forward(x_ND), coder.forward(x_ND))
    z_NF, scaled_z_NF = (by_hand(each, each.pre_activations(x_ND)) for each in (coder, scaled))
    torch.testing.assert_close(scaled_z_NF[..., None] * scaled.W_dec, z_NF[..., None] * coder.W_dec)


def test_weights_too_few_or_too_many_are_refused() -> None:
    coder = make("transcoder", JumpReLU())
    with pytest.raises(ModelError, match="has the weights") as caught:
        Coder(coder.config, coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec)
    assert caught.value.expected is not None
    assert "threshold" in caught.value.expected
    skip = make("skip-transcoder", TopK(k=4))
    found = skip.encode(inputs())
    with pytest.raises(ValueError, match="decodes with its input"):
        skip.decode(*found)

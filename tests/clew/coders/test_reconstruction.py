"""A cross-layer transcoder is the sum of what its layers write, and is stored and used whole or not at all."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from clew.coders import Coder, Reconstruction, load_coder, require_whole, save_coder
from clew.coders.coder import shapes
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import InvalidSpec, ModelError
from clew_spec.results import Lineage

pytestmark = pytest.mark.science

LAYERS = (1, 2, 4)


def cross_layer(layer: int, *, skip: bool = False) -> Coder:
    config = CoderConfig(
        kind="cross-layer-transcoder",
        activation=TopK(k=3),
        n_features=17,
        d_in=5,
        d_out=6,
        layer=layer,
        later_layers=[later for later in LAYERS if later > layer],
        skip=skip,
        dtype="float64",
        model_digest="m" * 64,
        tokenizer_digest="t" * 64,
        dataset_digest="d" * 64,
        bos="none",
    )
    generator = torch.Generator().manual_seed(layer)
    weights = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes(config).items()
    }
    return Coder.of(config, weights)


@pytest.mark.parametrize("skip", [False, True])
def test_each_layer_is_the_sum_of_what_is_written_to_it(skip: bool) -> None:
    coders = {layer: cross_layer(layer, skip=skip) for layer in LAYERS}
    require_whole(coders)
    x = {layer: torch.randn(11, 5, dtype=torch.float64) for layer in LAYERS}
    dense: dict[int, Tensor] = {}
    for layer, coder in coders.items():
        indices_NK, values_NK = coder.encode(x[layer])
        dense[layer] = torch.zeros(11, 17, dtype=torch.float64).scatter(1, indices_NK, values_NK)
    reconstruction = Reconstruction(coders)
    for layer, coder in coders.items():
        expected = dense[layer] @ coder.W_dec + coder.b_dec
        for below in LAYERS:
            if below < layer:
                expected = expected + dense[below] @ coders[below].W_later[layer]
        if coder.W_skip is not None:
            expected = expected + x[layer] @ coder.W_skip.T
        torch.testing.assert_close(reconstruction.at(layer, x[layer])[0], expected)


def test_layers_are_met_from_below() -> None:
    reconstruction = Reconstruction({layer: cross_layer(layer) for layer in LAYERS})
    reconstruction.at(2, torch.zeros(1, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match="layer 1 comes after layer 2"):
        reconstruction.at(1, torch.zeros(1, 5, dtype=torch.float64))


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    coder = cross_layer(1, skip=True)
    save_coder(coder, tmp_path / "L01", Lineage(code_version="test"))
    again = load_coder(tmp_path / "L01")
    assert again.config == coder.config
    assert list(again.W_later) == [2, 4]
    for name, parameter in coder.parameters().items():
        assert torch.equal(again.parameters()[name], parameter)


def test_a_part_of_one_is_refused() -> None:
    coders = {layer: cross_layer(layer) for layer in LAYERS}
    with pytest.raises(InvalidSpec, match=r"features of layer 1 write to the layers \[2, 4\]"):
        require_whole({layer: coders[layer] for layer in (1, 2)})
    lacking = {name: each for name, each in coders[1].parameters().items() if name != "W_dec_L04"}
    with pytest.raises(ModelError, match="W_dec_L02"):
        Coder.of(coders[1].config, lacking)

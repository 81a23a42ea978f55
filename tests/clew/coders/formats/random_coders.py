"""Seeded coders of every kind, and what foreign files are read with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clew.coders import Coder, Reconstruction
from clew.coders.coder import shapes
from clew.coders.formats import Given
from clew_spec.coders import Activation, BatchTopK, CoderConfig, JumpReLU, Kind, ReLU, TopK

GIVEN = Given(model_digest="m" * 64, tokenizer_digest="t" * 64, bos="none")
ACTIVATIONS: dict[str, Activation] = {
    "relu": ReLU(),
    "topk": TopK(k=4),
    "batchtopk": BatchTopK(k=4),
    "jumprelu": JumpReLU(),
}
D, F = 6, 24


def random_coder(
    kind: Kind = "transcoder",
    activation: str = "topk",
    *,
    layer: int = 1,
    later_layers: Sequence[int] = (),
    centred: bool = False,
    skip: bool = False,
    hook: str = "mlp.out",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    d: int = D,
) -> Coder:
    """Every weight away from its default; an SAE reads and writes `hook`."""
    config = CoderConfig(
        kind=kind,
        activation=ACTIVATIONS[activation],
        n_features=F,
        d_in=d,
        d_out=d,
        layer=layer,
        later_layers=list(later_layers),
        skip=skip,
        hook_in=hook if kind == "sae" else "mlp.in",
        hook_out=hook if kind == "sae" else "mlp.out",
        centred=centred,
        dtype=str(dtype).removeprefix("torch."),
        model_digest=GIVEN.model_digest,
        tokenizer_digest=GIVEN.tokenizer_digest,
        bos=GIVEN.bos,
    )
    generator = torch.Generator().manual_seed(100 * seed + layer)
    weights = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes(config).items()
    }
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].abs() + 0.5
    return Coder.of(config, {name: weight.to(dtype) for name, weight in weights.items()})


def cross_layer(n_layers: int = 3, activation: str = "jumprelu", *, skip: bool = False) -> list[Coder]:
    return [
        random_coder(
            "cross-layer-transcoder", activation, layer=layer, later_layers=range(layer + 1, n_layers), skip=skip
        )
        for layer in range(n_layers)
    ]


def inputs(n: int = 32, *, dtype: torch.dtype = torch.float32, seed: int = 7) -> Tensor:
    """[N, D]"""
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outputs(coders: Sequence[Coder], x_ND: Tensor) -> list[Tensor]:
    """What each layer of a set writes where all of them read `x_ND`."""
    reconstruction = Reconstruction({coder.layer: coder for coder in coders})
    return [reconstruction.at(coder.layer, x_ND)[0] for coder in coders]


def dense(coder: Coder, x_ND: Tensor) -> Tensor:
    """[N, F]: the features' activations."""
    indices_NK, values_NK = coder.encode(x_ND)
    return torch.zeros(len(x_ND), coder.config.n_features, dtype=values_NK.dtype).scatter(1, indices_NK, values_NK)
